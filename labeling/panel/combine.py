"""`preftree combine`: runs of several judges over the same pairs become one run, whose labels are the panel's."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from importlib import metadata
from itertools import islice
from typing import Any

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.calibration.identity import judged_of
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.labels_file import LABELS, RUN, LabelWriter
from preftree.labeling.data.row import rejected
from preftree.labeling.data.selection import selection_of
from preftree.labeling.options.panels import CombineOptions
from preftree.labeling.panel.fitting import Fit, fit
from preftree.labeling.panel.gold import panel_gold
from preftree.labeling.panel.judge import Judge, judges_of
from preftree.labeling.panel.label import JudgeVote, PanelLabel
from preftree.labeling.panel.mixture import Mixture
from preftree.labeling.panel.rows import rows_of_all
from preftree.labeling.report.figures import figures_of
from preftree.labeling.report.findings import findings
from preftree.labeling.report.text import Rejections, RunSummary
from preftree.labeling.runs.directory import RunDirectory
from preftree.labeling.runs.manifest import date, version
from preftree.labeling.runs.recorded import PANEL, SCHEMA
from preftree.labeling.types import Label, Pair, Rejected, Sample

_ROWS = 1024


def combine(options: CombineOptions) -> tuple[RunSummary, list[tuple[str, str]]]:
    """Write the panel's run; its summary, and what to tell a person of the fit.

    Raises PreftreeError, and leaves nothing then.
    """
    if options.gold is not None and not options.is_fitted:
        raise UsageError("--gold is what weights are fitted to; leave it out, or --weights equal")
    started = date(time.time())
    judges = judges_of(options.runs, options.is_fitted)
    if same := next((one for one in judges if one.is_at(options.out)), None):
        raise UsageError(f"{same.place} is one of the runs that are combined; name another --out")
    dataset = judges[0].input(options.input)
    fitted, lines = _fitted(options, judges)
    mixture = fitted.mixture if fitted else Mixture.equal(len(judges), options.mean)
    with RunDirectory(options.out, options.overwrite) as directory:
        directory.check_new()
        rejections, ok = _write(directory, judges, dataset, mixture, options.input)
        quality = figures_of(directory.folder.local(LABELS))
        record = _record(options, judges, dataset, mixture, fitted)
        summary = RunSummary(
            labels=directory.folder.place(LABELS),
            run=directory.folder.place(RUN),
            judge=_title(judges),
            noun="pair",
            ok=ok,
            quality=quality,
            rejections=rejections,
            prompt_tokens=0,
            unique_tokens=0,
            seconds=0.0,
            findings=findings(quality.figures(), record),
        )
        dates = {"started": started, "finished": date(time.time())}
        directory.finish({**record, **dates, "totals": summary.totals(), "quality": quality.figures()})
    return summary, lines


def _fitted(options: CombineOptions, judges: Sequence[Judge]) -> tuple[Fit | None, list[tuple[str, str]]]:
    """The fit to gold, if one is wanted, and what to tell a person of it."""
    if not options.is_fitted:
        return None, []
    gold, said, gold_is_a = panel_gold(judges, options.gold)
    found = fit(said, gold_is_a, options.mean)
    lines = [*gold.lines(), *found.lines()]
    for judge, weight, slope in zip(judges, found.mixture.weights, found.slopes, strict=True):
        coin = "; no better than a coin" if slope == 0 else ""
        lines.append(("judges", f"{judge.name}: weight {weight:.3f}, logits times {slope:.3f}{coin}"))
    return found, lines


def _write(
    directory: RunDirectory, judges: Sequence[Judge], dataset: Dataset, mixture: Mixture, moved_to: str | None
) -> tuple[Rejections, int]:
    """The labels; returns the rows without one, and the number of those with."""
    rejections, ok = Rejections(), 0
    rows = rows_of_all(judges, dataset, moved_to)
    with LabelWriter(directory.folder, dataset.info, PanelLabel.COLUMNS) as writer:
        while some := list(islice(rows, _ROWS)):
            labelled = [_labelled(item, judges, found, mixture) for item, found in some]
            writer.add(labelled)
            for item, label in labelled:
                if isinstance(item, Rejected):
                    rejections.add(dataset.info.place(item.line), item.reason)
                ok += label is not None
        if not ok:
            raise InputError(f"no row of {dataset.name} has a label of every judge: {rejections.by_kind()}")
        dataset.check_unchanged()
        writer.publish()
    return rejections, ok


def _labelled(
    item: Sample | Rejected, judges: Sequence[Judge], found: Sequence[dict[str, Any]], mixture: Mixture
) -> tuple[Sample | Rejected, Label | None]:
    """A row with the panel's label; rejected where a judge has none."""
    if isinstance(item, Rejected):
        return item, None
    if not isinstance(item, Pair):
        return rejected(item, "wrong kind: a panel is about pairs"), None
    for judge, row in zip(judges, found, strict=True):
        if row["p_a"] is None:
            return rejected(item, f"no label of judge {judge.name}: {row['reason'] or 'it has no p_a'}"), None
    said = [row["p_a"] for row in found]
    q = mixture.calibrated(said)
    shown: Sequence[float | None] = [None] * len(q) if mixture.curves is None else q
    votes = tuple(JudgeVote(judge.name, *both) for judge, *both in zip(judges, said, shown, strict=True))
    tokens = sum(row["prompt_tokens"] or 0 for row in found)
    return item, PanelLabel(mixture.at(q), mixture.disagreement(q), votes, tokens)


def _title(judges: Sequence[Judge]) -> str:
    return "panel of " + ", ".join(judge.name for judge in judges)


def _models(scorer: dict[str, Any]) -> list[str]:
    """Those that a run was judged by: of a panel all of its judges."""
    return scorer.get("judges") or [model for model in [scorer.get("model")] if model]


def _record(
    options: CombineOptions, judges: Sequence[Judge], dataset: Dataset, mixture: Mixture, fitted: Fit | None
) -> dict[str, Any]:
    """For run.json. `method` is what labels follow from; where the runs are is beside it."""
    slopes = fitted.slopes if fitted else (None,) * len(judges)
    voters = [
        {"name": judge.name, "weight": weight, "slope": slope, "judged": judged_of(judge.record)}
        for judge, weight, slope in zip(judges, mixture.weights, slopes, strict=True)
    ]
    chosen = judges[0].record["options"]
    return {
        "schema": SCHEMA,
        "versions": {
            "preftree": version(),
            "python": platform.python_version(),
            "pyarrow": metadata.version("pyarrow"),
        },
        "input": dataset.record(),
        "options": selection_of(chosen) | {"mapping": chosen.get("mapping", ())},
        "method": {"name": PANEL, "mean": mixture.mean, "judges": voters},
        "scorer": {
            "model": _title(judges),
            "judges": [model for judge in judges for model in _models(judge.record["scorer"])],
        },
        "panel": {"runs": [judge.place for judge in judges], "gold": options.gold}
        | (fitted.record() if fitted else {}),
    }
