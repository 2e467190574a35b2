"""The section on how often A wins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from preftree.labeling.report.html import plots
from preftree.labeling.report.html.section import Figures, Plot, Section, percent, with_interval
from preftree.labeling.report.html.survey import Survey
from preftree.labeling.report.table import Table

_BARS = 30


def win_rate(figures: Figures, survey: Survey) -> Section:
    """Of all pairs, under each set of principles, and of each value of a column."""
    named = [(name, one) for name, one in _found(figures) if one]
    if not named:
        return Section("Win rate")
    text = (
        "How often response A wins, a tie counted half. At equal length: what a logistic regression on the ratio of "
        "both lengths predicts for a ratio of 1."
    )
    head = ("", "pairs", "A wins (95% interval)", "mean p", "at equal length (95% interval)")
    rows = tuple((name, *_cells(one)) for name, one in named)
    shown = [(name, one["share"], one["interval"]) for name, one in named[:_BARS]]
    adjusted = named[0][1]["length_adjusted"]
    if adjusted:
        shown.insert(1, (f"{named[0][0]}, at equal length", adjusted["share"], adjusted["interval"]))
    drawn = plots.shares("win-rate", shown, "A wins")
    return Section(
        "Win rate", (text,), (Table(rows, head),), (Plot(drawn, "Right of the dashed line A wins more often than B."),)
    )


def _found(figures: Figures) -> Iterator[tuple[str, dict[str, Any] | None]]:
    yield "all pairs", figures.get("win_rate")
    for one in figures.get("sets", ()):
        yield one["name"], (one["pairs"] or {}).get("win_rate")
    subsets = figures.get("subsets") or {"values": ()}
    for one in subsets["values"]:
        yield str(one["value"]), one["figures"].get("win_rate")
    if others := subsets.get("others"):
        yield "all other values", others["figures"].get("win_rate")


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    adjusted = one["length_adjusted"]
    equal = with_interval(adjusted["share"], adjusted["interval"]) if adjusted else "no adjustment possible"
    return f"{one['pairs']:,}", with_interval(one["share"], one["interval"]), percent(one["mean_p_a"]), equal
