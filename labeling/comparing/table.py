"""A comparison on a terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from textwrap import wrap
from typing import Any, NamedTuple

from preftree.labeling.comparing.comparison import AXES, Compared, Comparison, figures_of
from preftree.labeling.report.text import aligned
from preftree.labeling.terminal import count, one_line

_NAME = 24  # characters, so that all is 80 wide
_TEXT = 74


class _Column(NamedTuple):
    """Attributes:
    head: its heading.
    shown: the cell of a combination, from its figures by name.
    """

    head: str
    shown: Callable[[dict[str, Any]], str]


def _number(name: str, form: str, scale: float = 1.0) -> Callable[[dict[str, Any]], str]:
    return lambda of: "–" if of[name] is None else form.format(of[name] * scale)


_COLUMNS = (
    _Column("agree", _number("agreement", "{:.1%}")),
    _Column("95%", lambda of: f"{of['agreement_low'] * 100:.0f}-{of['agreement_high'] * 100:.0f}"),
    _Column("ECE", _number("expected_calibration_error", "{:.2f}")),
    _Column("Brier", _number("brier", "{:.3f}")),
    _Column("bias", _number("position_bias", "{:.0%}")),
    _Column("same", _number("consistent", "{:.0%}")),
    _Column("mass", _number("mean_label_mass", "{:.2f}")),
    _Column("tokens", _number("unique_tokens_per_1000", "{:,.0f}", 1 / 1000)),
    _Column("s", _number("seconds_per_1000", "{:,.0f}")),
    _Column("best", _number("best_share", "{:.0%}")),
)
_LEGEND = (
    "ECE, Brier: calibration, 0 is best. bias: both orders prefer the same position.",
    "same: both orders prefer the same response. mass: probability of the labels.",
    "tokens, s: thousands of unique tokens, and seconds, of 1,000 pairs.",
    "best: share of resamples of the pairs in which this agrees most.",
)


def table_lines(comparison: Comparison) -> Iterator[str]:
    """The table, what it means, and what can be said of the best."""
    same = [(name, comparison.entries[0].axis(name)) for name in AXES if name not in comparison.varied]
    about = ", ".join(f"{name} {one_line(value)}" for name, value in same if value)
    what = f"{count(len(comparison.entries), 'combination')} on {_pairs(comparison)}"
    yield aligned([("compared", what), *([("with", about)] if about else [])])
    yield ""
    rows = [[column.head for column in _COLUMNS]]
    rows += [[column.shown(figures_of(one)) for column in _COLUMNS] for one in comparison.entries]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    names = ["", *(f"{rank} {name_of(one, comparison)}" for rank, one in enumerate(comparison.entries, start=1))]
    size = min(max(map(len, names)), _NAME)
    for name, cells in zip(names, rows, strict=True):
        yield " ".join([f"{_cut(name, size):<{size}}", *(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))])
    yield ""
    yield from _LEGEND
    yield ""
    yield aligned(list(_said(comparison)))


def name_of(one: Compared, comparison: Comparison) -> str:
    """By what sets it apart from the others."""
    values = [one.axis(name) for name in comparison.varied] or [one.combination.name]
    return " ".join(one_line(value.rstrip("/").rpartition("/")[2]) for value in values if value)


def verdict_lines(comparison: Comparison) -> Iterator[str]:
    """What can be said of the best, in sentences."""
    best, *others = comparison.entries
    if not others:
        yield "A single combination: there is nothing to compare it with."
        return
    second = others[0].behind
    assert second is not None
    yield (
        f"{name_of(best, comparison)} is {second.mean * 100:.1f} points ahead of the second, "
        f"{name_of(others[0], comparison)} (95% interval {second.low * 100:.1f} to {second.high * 100:.1f}; McNemar's "
        f"exact p {second.mcnemar_p:.2g}), and the best in {best.best_share:.0%} of the resamples."
    )
    if not (unsure := list(comparison.unsure)):
        yield "It is better than each of the others; intervals are not corrected for their number."
        return
    yield f"{_pairs(comparison)} are too few to tell it from {_of_others(len(unsure), len(others))}."
    if not second.is_known and second.pairs_needed is None:
        yield "It agrees with gold exactly as often as the second: nothing says how many pairs would tell them apart."
    elif not second.is_known:
        needed = _rounded(second.pairs_needed)
        yield f"About {needed} gold pairs would tell it from the second, if the difference stays the same."


def _of_others(unsure: int, others: int) -> str:
    """ "the other", "3 of the 7 others"."""
    return "the other" if others == 1 else f"{unsure:,} of the {others:,} others"


def coin_line(comparison: Comparison) -> str | None:
    """A warning where the best may be no better than chance."""
    low, high = comparison.entries[0].figures["agreement_interval"]
    if low > 0.5:
        return None
    return f"The best may be no better than chance: the 95% interval of its agreement is {low:.0%} to {high:.0%}."


def _rounded(number: int | None) -> str:
    """Two digits of it, upwards."""
    assert number is not None
    step = 10 ** max(0, len(str(number)) - 2)
    return f"{-(-number // step) * step:,}"


def _said(comparison: Comparison) -> Iterator[tuple[str, str]]:
    texts = [*verdict_lines(comparison), *([warning] if (warning := coin_line(comparison)) else [])]
    yield from (("best", line) for text in texts for line in wrap(text, _TEXT))
    if comparison.unique_tokens:
        share = comparison.unique_tokens / comparison.prompt_tokens
        tokens = f"{comparison.unique_tokens:,} of {comparison.prompt_tokens:,} prompt tokens ({share:.0%})"
        yield "run", f"{tokens} went through the model"
    yield from (("note", one_line(note)) for note in comparison.notes)


def _pairs(comparison: Comparison) -> str:
    return count(comparison.pairs, "gold pair")


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"{text[: size - 1]}…"
