"""A comparison as one HTML page."""

from __future__ import annotations

from collections.abc import Iterator

from preftree.labeling.comparing.comparison import AXES, Compared, Comparison, figures_of
from preftree.labeling.comparing.table import coin_line, name_of, verdict_lines
from preftree.labeling.report.html import plots
from preftree.labeling.report.html.page import rendered
from preftree.labeling.report.html.section import Plot, Section, percent, with_interval
from preftree.labeling.report.table import Table, decimal

_RELIABILITIES = 12
_HEAD = (
    *("", "agreement (95% interval)", "ECE", "Brier score", "position bias", "orders agree", "label mass"),
    *("prompt tokens", "unique tokens", "seconds", "best"),
)
_ABOUT = (
    "Agreement: share of pairs whose verdict is that of gold, ties as halves, with Wilson's interval. ECE and Brier "
    "score: calibration, 0 is best, and a Brier score of 0.25 is that of always saying 0.5. Position bias: share of "
    "pairs with the same position preferred in both orders. Tokens and seconds are of a thousand pairs with this "
    "combination alone. Best: share of 10,000 resamples of the pairs in which it agrees most."
)
_PAIRED = (
    "The best less each other: difference of agreement in points, with its 95% interval by paired bootstrap; the exact "
    "p of McNemar's test; and about how many gold pairs would tell a difference of this size from 0, in four "
    "comparisons of five. Nothing is corrected for the number of combinations."
)


def page_of(comparison: Comparison, title: str) -> str:
    """The whole text. Raises InputError where matplotlib is not installed."""
    best = comparison.entries[0]
    tiles = [
        ("best", name_of(best, comparison)),
        ("agreement with gold", percent(best.figures["agreement"])),
        ("best in resamples", percent(best.best_share)),
    ]
    warnings = [*comparison.notes, *([warning] if (warning := coin_line(comparison)) else [])]
    return rendered(title, comparison.pairs, tiles, list(_sections(comparison)), warnings)


def _sections(comparison: Comparison) -> Iterator[Section]:
    named = [(name_of(one, comparison), one) for one in comparison.entries]
    shares = [(name, one.figures["agreement"], one.figures["agreement_interval"]) for name, one in named]
    drawn = plots.shares("agreement", shares, "agreement with gold")
    table = Table(tuple((name, *_cells(one)) for name, one in named), _HEAD)
    caption = "The dashed line is a coin. Intervals may overlap and the paired difference be clear: see below."
    yield Section("Combinations", (*verdict_lines(comparison), _ABOUT), (table,), (Plot(drawn, caption),))
    rows = tuple((name, *_behind(one)) for name, one in named[1:])
    if rows:
        head = ("", "points behind (95% interval)", "McNemar's p", "gold pairs to tell")
        yield Section("How far behind the best", (_PAIRED,), (Table(rows, head),))
    reliable = [
        Plot(plots.reliability(f"reliability-{place}", one.figures["calibration"]["bins"]), name)
        for place, (name, one) in enumerate(named[:_RELIABILITIES])
        if one.figures["calibration"]
    ]
    if reliable:
        yield Section("Calibration", plots=tuple(reliable))
    about = tuple((name, value) for name, value in _about(comparison))
    yield Section("What was run", tables=(Table(about),))


def _cells(one: Compared) -> tuple[str, ...]:
    of = figures_of(one)
    seconds = of["seconds_per_1000"]
    return (
        with_interval(of["agreement"], (of["agreement_low"], of["agreement_high"])),
        decimal(of["expected_calibration_error"]),
        decimal(of["brier"]),
        percent(of["position_bias"]),
        percent(of["consistent"]),
        decimal(of["mean_label_mass"]),
        f"{of['prompt_tokens_per_1000']:,.0f}",
        f"{of['unique_tokens_per_1000']:,.0f}",
        "–" if seconds is None else f"{seconds:,.1f}",
        percent(of["best_share"]),
    )


def _behind(one: Compared) -> tuple[str, ...]:
    of = one.behind
    assert of is not None
    points = f"{of.mean * 100:.1f} ({of.low * 100:.1f} to {of.high * 100:.1f})"
    return points, f"{of.mcnemar_p:.3g}", "–" if of.pairs_needed is None else f"{of.pairs_needed:,}"


def _about(comparison: Comparison) -> Iterator[tuple[str, str]]:
    for name in AXES:
        values = dict.fromkeys(one.axis(name) for one in comparison.entries)
        if any(values):
            yield name, ", ".join(value for value in values if value)
    yield "gold pairs", f"{comparison.pairs:,}"
    yield "prompt tokens", f"{comparison.prompt_tokens:,}, of which {comparison.unique_tokens:,} went through a model"
