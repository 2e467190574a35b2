"""The page: sections and rows in one self-contained HTML text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from preftree.labeling.report.findings import findings
from preftree.labeling.report.html.job import job
from preftree.labeling.report.html.section import Figures, Section, percent
from preftree.labeling.report.html.sections import sections
from preftree.labeling.report.html.survey import Survey
from preftree.labeling.report.reading import Reading, reading
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Sample


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
        [one.text for one in findings(figures, record)],
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
