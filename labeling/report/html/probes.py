"""The section on what probes did to labels."""

from __future__ import annotations

from typing import Any

from preftree.labeling.report.html import plots
from preftree.labeling.report.html.section import Figures, Plot, Section, percent, with_interval
from preftree.labeling.report.html.survey import Survey
from preftree.labeling.report.probe_tally import MOVED
from preftree.labeling.report.table import Table, decimal

_HEAD = ("probe", "kind", "pairs", "mean shift (95% interval)", "moved", "flips (95% interval)", "lost, then won")
_TEXT = (
    "What should not change a verdict was done to one response at a time, or to the prompt. Shift: the change of the "
    f"probability of that response. Moved: by more than {MOVED} either way. Lost, then won: of responses that lost as "
    "they are, how many win with the probe."
)


def probes(figures: Figures, survey: Survey) -> Section:
    """A row for each probe, and the rows that moved most."""
    found = figures.get("probes")
    if not found:
        return Section("Probes")
    worst = tuple(
        (one["name"], row["id"], row["response"] or "", decimal(row["p_before"]), decimal(row["p_after"]))
        for one in found
        for row in one["worst"]
    )
    tables = [Table(tuple(map(_cells, found)), _HEAD)]
    if worst:
        tables.append(Table(worst, ("moved most by", "row", "response", "p before", "p after")))
    shown = [(one["name"], one["flipped"], one["flipped_interval"]) for one in found]
    drawn = Plot(plots.shares("probes", shown, "verdict flips"), "How often each probe turns the verdict around.")
    return Section("Probes", (_TEXT,), tuple(tables), (drawn,))


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    interval = one["mean_shift_interval"]
    shift = decimal(one["mean_shift"], "+")
    return (
        one["name"],
        one["kind"],
        f"{one['pairs']:,}",
        f"{shift} ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else shift,
        percent(one["moved"]),
        with_interval(one["flipped"], one["flipped_interval"]),
        with_interval(one["won_share"], one["won_interval"]) if one["lost"] else "–",
    )
