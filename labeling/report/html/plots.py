"""The plots of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from preftree.labeling.report.html.svg import FAINT, MAIN, SECOND, THIRD, drawing, svg_of
from preftree.labeling.report.html.tallies import Directions, Histogram, Places
from preftree.labeling.report.intervals import wilson_interval
from preftree.labeling.terminal import one_line

_NAME_CHARS = 24
_LINE = 0.24  # inches of a row of text


def reliability(name: str, bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Confidence against correctness with 95% intervals, and how many pairs each bin has.

    bins: with from, to, pairs, mean_confidence and correct.
    """
    with drawing(3.4, nrows=2, height_ratios=(3, 1), sharex=True) as (figure, (above, below)):
        above.plot((0.5, 1.0), (0.5, 1.0), color=FAINT, linestyle="--", linewidth=1)
        for one in bins:
            low, high = wilson_interval(one["correct"] * one["pairs"], one["pairs"])
            above.plot((one["mean_confidence"],) * 2, (low, high), color=MAIN, linewidth=1.5, alpha=0.6)
        confidence = [one["mean_confidence"] for one in bins]
        above.plot(confidence, [one["correct"] for one in bins], "o", color=MAIN, markersize=5)
        above.set(ylabel="correct", xlim=(0.49, 1.01), ylim=(-0.02, 1.02))
        above.yaxis.set_major_formatter(_percent)
        above.grid(axis="y")
        centres, widths = [(one["from"] + one["to"]) / 2 for one in bins], [one["to"] - one["from"] for one in bins]
        below.bar(centres, [one["pairs"] for one in bins], [0.9 * width for width in widths], color=MAIN)
        below.set(xlabel="confidence: the larger of p and 1 - p", ylabel="pairs")
        _whole_numbers(below.yaxis, max(one["pairs"] for one in bins))
        return svg_of(figure, name, "Reliability diagram: share of correct verdicts by confidence.")


def histogram(name: str, counts: Histogram, label: str, unit: str, middle: float | None = None) -> Markup:
    """middle: where a line is drawn."""
    with drawing(2.1) as (figure, axes):
        width = (counts.high - counts.low) / len(counts.counts)
        axes.bar(counts.edges[:-1], counts.counts, 0.9 * width, align="edge", color=MAIN)
        if middle is not None:
            axes.axvline(middle, color=FAINT, linestyle="--", linewidth=1)
        axes.set(xlabel=label, ylabel=unit, xlim=(counts.low, counts.high))
        _whole_numbers(axes.yaxis, int(counts.counts.max()))
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        return svg_of(figure, name, f"Histogram: {label}, by number of {unit}.")


def directions(name: str, found: Sequence[tuple[str, Directions]]) -> Markup:
    """Shares of judgements that prefer the first position, the same response, and the second position: bars."""
    with drawing(0.85 + _LINE * len(found) * 1.2) as (figure, axes):
        names = [short(text) or "all" for text, _ in found]
        left = [0.0] * len(found)
        parts = (("first", "first", SECOND), ("same", "same response", MAIN), ("second", "second", THIRD))
        for part, label, colour in (*parts, ("tied", "no preference", FAINT)):
            shares = [getattr(counts, part) / max(counts.total, 1) for _, counts in found]
            if part == "tied" and not any(shares):
                continue
            axes.barh(range(len(found)), shares, 0.75, left, color=colour, label=label, alpha=0.85)
            left = [start + share for start, share in zip(left, shares, strict=True)]
        axes.set(xlim=(0, 1), ylim=(len(found) - 0.5, -0.5), xlabel="share of judgements")
        axes.set_yticks(range(len(found)), names)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(_percent)
        figure.legend(loc="outside upper left", ncols=4, fontsize=8.5, handlelength=0.8, columnspacing=0.8, borderpad=0)
        return svg_of(figure, name, "Bars: which position judgements prefer in both orders.")


def shares(name: str, found: Sequence[tuple[str, float, tuple[float, float]]], label: str) -> Markup:
    """Shares with 95% intervals, one below the other. found: name, share, interval."""
    with drawing(0.75 + _LINE * len(found)) as (figure, axes):
        axes.axvline(0.5, color=FAINT, linestyle="--", linewidth=1)
        for place, (_, share, (low, high)) in enumerate(found):
            axes.plot((low, high), (place, place), color=MAIN, linewidth=1.5, alpha=0.6)
            axes.plot((share,), (place,), "o", color=MAIN, markersize=5)
        axes.set(xlim=(-0.02, 1.02), ylim=(len(found) - 0.5, -0.5), xlabel=label)
        axes.set_yticks(range(len(found)), [short(text) for text, _, _ in found])
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(_percent)
        axes.grid(axis="x")
        return svg_of(figure, name, f"Shares with 95% intervals: {label}.")


def heat_map(name: str, names: Sequence[str], matrix: Sequence[Sequence[float | None]], label: str) -> Markup:
    """Values from -1 to 1 of each two of `names`, written where there is room. label: what they are."""
    size = len(names)
    with drawing(min(4.9, 1.7 + 0.32 * size), subplot_kw={"aspect": "equal"}) as (figure, axes):
        from matplotlib.patches import Rectangle

        for row, line in enumerate(matrix):
            for column, value in enumerate(line):
                if value is None:
                    continue
                colour, strength = MAIN if value >= 0 else SECOND, 0.8 * abs(value)
                axes.add_patch(Rectangle((column, row), 0.96, 0.96, facecolor=colour, alpha=strength, linewidth=0))
                if size <= 8:
                    axes.text(column + 0.48, row + 0.52, f"{value:.2f}", ha="center", va="center", fontsize=8.5)
        axes.set(xlim=(0, size), ylim=(size, 0))
        middles, texts = [place + 0.5 for place in range(size)], [short(text, 18) for text in names]
        axes.set_xticks(middles, texts, rotation=90 if size > 3 else 0, fontsize=8.5)
        axes.set_yticks(middles, texts, fontsize=8.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return svg_of(figure, name, f"Heat map: {label}.")


def strengths(name: str, places: Places) -> Markup:
    """Mean and standard deviation by place of the ranking."""
    used = [place for place, count in enumerate(places.count) if count]
    with drawing(2.4) as (figure, axes):
        mean, deviation = places.mean[used], places.deviation[used]
        axes.errorbar([place + 1 for place in used], mean, deviation, color=MAIN, fmt="o", markersize=5, capsize=3)
        axes.axhline(0, color=FAINT, linestyle="--", linewidth=1)
        axes.set(xlabel="place in the ranking", ylabel="strength, nats", xlim=(0.5, len(used) + 0.5))
        _whole_numbers(axes.xaxis, len(used))
        axes.grid(axis="y")
        return svg_of(figure, name, "Bradley-Terry strengths by place: mean and standard deviation.")


def short(text: str, size: int = _NAME_CHARS) -> str:
    """A name as one line, cut where it is too long for an axis."""
    whole = one_line(text)
    return whole if len(whole) <= size else f"{whole[: size - 1]}…"


def _percent(value: float, _: int) -> str:
    return f"{value:.0%}"


def _whole_numbers(axis: Any, largest: int) -> None:
    """Ticks at whole numbers, with commas."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(4 if largest > 3 else max(largest, 1), integer=True))
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
