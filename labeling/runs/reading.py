"""Rows of a run that are worth reading, in brief."""

from __future__ import annotations

from collections.abc import Iterator

from preftree.labeling.options.reading import ShowOptions
from preftree.labeling.report.notable import DISAGREEMENT, GAP, ORDER, WRONG, WRONG_REWARD, Measure, notable_rows
from preftree.labeling.report.reading import Reading, reading
from preftree.labeling.report.text import aligned
from preftree.labeling.result import Result
from preftree.labeling.runs.recorded import samples_again
from preftree.labeling.runs.view import RunView
from preftree.labeling.terminal import heading, one_line

_MEASURES: dict[str | None, tuple[Measure, ...]] = {
    None: (ORDER,),
    "disagree": (DISAGREEMENT,),
    "biased": (GAP,),
    "wrong": (WRONG, WRONG_REWARD),
}
_NONE = {
    None: "no row is labelled",
    "disagree": "no row on which the two orders disagree",
    "biased": "no row was judged in two orders",
    "wrong": "no row whose verdict is not that of gold",
}
_MAX_CHARS = 600


def row_list(found: RunView, options: ShowOptions) -> Result:
    """Rows in brief; for `--json` with all their columns."""
    chosen = [row for measure in _MEASURES[options.which] for row in notable_rows(found.labels, measure, options.rows)]
    lines = [aligned(found.so_far())] if found.is_partial else []
    if not chosen:
        return Result([*lines, _NONE[options.which]], {"rows": []})
    samples, missing = samples_again(found.record, [str(row.row["id"]) for row in chosen], options.input)
    readings = [reading(row, samples.get(str(row.row["id"]))) for row in chosen]
    lines += [line for one in readings for line in _brief(one)]
    if missing:
        lines.append(f"\nthe texts cannot be shown: {one_line(missing)}")
    rows = [
        {"reasons": list(one.reasons), "label": one.row, "texts": dict(shown.texts)}
        for one, shown in zip(chosen, readings, strict=True)
    ]
    return Result(lines, {"rows": rows} | ({"missing": missing} if missing else {}))


def _brief(row: Reading) -> Iterator[str]:
    yield heading(f"{row.title}: {', '.join(row.reasons)}" if row.reasons else row.title)
    if row.verdict:
        yield row.verdict
    for table in row.tables:
        yield from table.lines()
    for name, text in row.texts:
        short = one_line(text)
        yield f"{name}: {short if len(short) <= _MAX_CHARS else short[:_MAX_CHARS] + '...'}"
