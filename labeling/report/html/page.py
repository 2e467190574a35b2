"""The page: sections and rows in one self-contained HTML text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from preftree.labeling.report.html.job import job
from preftree.labeling.report.html.section import Figures, Section, percent
from preftree.labeling.report.html.sections import sections
from preftree.labeling.report.html.survey import Survey
from preftree.labeling.report.reading import Reading, reading
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Sample

_COIN, _HALF = 0.5, 0.5


def page(
    title: str,
    record: Mapping[str, Any],
    figures: Figures,
    survey: Survey,
    samples: Mapping[str, Sample],
    missing: str | None = None,
) -> str:
    """The whole text.

    Args:
        title: name of the run.
        record: run.json; {} where there is none.
        figures: of the labels, by name.
        survey: of the same labels.
        samples: what was labelled, by id, for the rows worth reading.
        missing: why samples are not there.
    """
    about, rest = job(record), sections(figures, survey)
    return rendered(
        title,
        survey.rows,
        _tiles(figures),
        rest if about.is_empty else [about, *rest],
        _warnings(figures),
        [reading(found, samples.get(found.row["id"])) for found in survey.notable.rows()],
        missing,
    )


def rendered(
    title: str,
    rows: int,
    tiles: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    warnings: Sequence[str] = (),
    readings: Sequence[Reading] = (),
    missing: str | None = None,
) -> str:
    """A page of such parts. rows: that it is about. missing: why samples are not there."""
    import jinja2

    source = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(source).render(
        title=one_line(title),
        rows=rows,
        tiles=tiles,
        warnings=warnings,
        sections=sections,
        readings=readings,
        missing=None if missing is None else one_line(missing),
    )


def _tiles(figures: Figures) -> Sequence[tuple[str, str]]:
    """The numbers that are looked at first."""
    calibration = figures.get("calibration") or {}
    error = calibration.get("expected_calibration_error")
    known = {
        "agreement with gold": figures.get("agreement"),
        "position bias": figures.get("position_bias"),
        "mean label mass": figures.get("mean_label_mass"),
    }
    tiles = [(name, percent(value)) for name, value in known.items() if value is not None]
    return [*tiles, ("expected calibration error", f"{error:.3f}")] if error is not None else tiles


def _warnings(figures: Figures) -> Sequence[str]:
    """What keeps labels from being trusted, with what to do about it."""
    found = []
    interval, bias, mass = (figures.get(name) for name in ("agreement_interval", "position_bias", "mean_label_mass"))
    if interval and interval[0] <= _COIN:
        found.append(
            "Agreement with gold is not better than a coin within its 95% interval. Label more rows that have gold, or "
            "use a stronger judge, before you train on these labels."
        )
    if bias is not None and bias > _HALF:
        found.append(
            "The judge prefers the same position in both orders more often than not: most labels say little about the "
            "responses. Use a stronger judge, or leave out such pairs with export --drop-inconsistent."
        )
    if mass is not None and mass < _HALF:
        found.append(
            "The labels got less than half of the probability: the model wanted to say something else. Try --chat or "
            "--plain, or another template."
        )
    return found
