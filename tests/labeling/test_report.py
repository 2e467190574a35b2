"""Figures of a run, against sums done by hand, and the English of its summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from labeling.quality import PairQuality, wilson_interval
from labeling.report import Rejections, RunSummary, reason_kind, render_summary
from labeling.types import Message, Pair, PairLabel, Verdict


def label(first: float, second: float, mass: tuple[float, float] = (0.9, 0.7)) -> PairLabel:
    return PairLabel((first + second) / 2, first, second, *mass, 100)


def quality_of(*labels: tuple[PairLabel, Verdict | None]) -> PairQuality:
    quality = PairQuality()
    for one, gold in labels:
        quality.add(Pair("1", (Message("user", "q"),), "this", "that", gold), one)
    return quality


def summary_of(quality: PairQuality, rejections: Rejections | None = None, seconds: float = 2.0) -> RunSummary:
    return RunSummary(
        Path("d/labels.parquet"),
        Path("d/run.json"),
        "model, cpu, float32",
        "pair",
        quality.pairs,
        quality,
        rejections or Rejections(),
        6000,
        2000,
        seconds,
    )


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(8, 10, 0.49016, 0.94332), (0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (0.5, 1, 0.05462, 0.94538)],
)
def test_wilson_interval(successes: float, trials: int, low: float, high: float) -> None:
    """Catches the normal approximation, which is empty at 0 and 1, and a wrong quantile."""
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-5)


def test_agreement_counts_ties_half_and_skips_gold_ties() -> None:
    """Catches a tie counted as a verdict, and rows without a human verdict in the denominator."""
    quality = quality_of(
        (label(0.9, 0.7), "a"),
        (label(0.2, 0.4), "a"),
        (label(0.6, 0.4), "b"),
        (label(0.9, 0.9), "tie"),
        (label(0.9, 0.9), None),
    )
    assert (quality.pairs, quality.ties, quality.gold_pairs, quality.gold_ties) == (5, 1, 3, 1)
    assert quality.agreement == pytest.approx(1.5 / 3)


def test_position_bias() -> None:
    """Catches rate and direction mixed up, and orders that agree on a response counted as bias."""
    quality = quality_of(
        (label(0.9, 0.2), None),  # the first twice
        (label(0.8, 0.1), None),  # the first twice
        (label(0.3, 0.6), None),  # the second twice
        (label(0.9, 0.6), None),  # A twice
        (label(0.1, 0.2), None),  # B twice
        (label(0.5, 0.2), None),  # undecided once
    )
    assert quality.position_bias == pytest.approx(3 / 6)
    assert quality.prefers_first == pytest.approx(2 / 3)
    assert quality.mean_gap == pytest.approx((0.7 + 0.7 - 0.3 + 0.3 - 0.1 + 0.3) / 6)
    assert quality.mean_absolute_gap == pytest.approx((0.7 + 0.7 + 0.3 + 0.3 + 0.1 + 0.3) / 6)


def test_swapping_responses_mirrors_nothing_but_the_verdict() -> None:
    """Catches a bias figure that depends on which response is called A."""
    there = quality_of((label(0.9, 0.2), "a"), (label(0.3, 0.4), "b"))
    back = quality_of((label(0.8, 0.1), "b"), (label(0.6, 0.7), "a"))
    for name in ("position_bias", "prefers_first", "mean_gap", "agreement"):
        assert getattr(there, name) == pytest.approx(getattr(back, name))


def test_label_mass() -> None:
    """Catches an average over pairs that hides the order in which the labels were hardly considered."""
    quality = quality_of((label(0.9, 0.9, (0.9, 0.7)), None), (label(0.9, 0.9, (0.9, 0.3)), None))
    assert quality.mean_label_mass == pytest.approx(0.7)
    assert quality.low_mass == 1


def test_nothing_labelled() -> None:
    """Catches divisions by zero, and NaN, which is no JSON, in run.json."""
    assert {value for value in PairQuality().figures().values() if value} == set()
    summary = RunSummary(Path("l"), Path("r"), "m", "pair", 0, PairQuality(), Rejections(), 0, 0, 0.0)
    assert summary.totals()["sharing"] is None
    assert summary.totals()["prompt_tokens_per_second"] is None
    assert "0 pairs labelled" in render_summary(summary)


def test_rejections_are_counted_by_kind() -> None:
    """Catches a dictionary that grows with the file when every reason has its own number."""
    rejections = Rejections()
    for line in range(1, 1001):
        rejections.add(line, f"the prompt has {line:,} tokens, the model's context is 8,192")
    rejections.add(1001, "broken JSON: Expecting value at column 9")
    assert rejections.kinds == {"the prompt has N tokens, the model's context is N": 1000, "broken JSON": 1}
    assert len(rejections.first) == 5
    for word in range(200):
        rejections.add(1, "odd " + "x" * word)
    assert len(rejections.kinds) == 51
    assert sum(rejections.kinds.values()) == rejections.count == 1201
    assert reason_kind("line too long: over 16 MB") == "line too long"


def test_summary_of_many() -> None:
    """Catches a figure that is computed and not shown, and rates that are swapped."""
    rejections = Rejections()
    for line in range(3, 10):
        rejections.add(line, "blank text: \x1b[31mresponse_a")
    quality = quality_of((label(0.9, 0.2), "a"), (label(0.6, 0.4, (0.4, 0.9)), "b"), *[(label(0.9, 0.8), "a")] * 2000)
    text = render_summary(summary_of(quality, rejections))
    for part in (
        "2,002 pairs labelled, 7 rows rejected",
        "100.0% of 2,002 pairs (95% interval 99.8% to 100.0%); 1 tie counted half",
        "0.1%: 2 pairs of 2,002 prefer the same position in both orders (2 the first, 0 the second)",
        "1 pair under 0.5 in an order",
        "6,000 in prompts, 2,000 unique: sharing 3.00x",
        "3,000 prompt tokens/s, 1,000 unique tokens/s over 2.0 s in the engine",
        r"line 3: blank text: \x1b[31mresponse_a",
        "and 2 more rows; every reason is in the labels",
        "d/labels.parquet",
        "d/run.json",
    ):
        assert part in text
    assert "\x1b" not in text
    assert "line 8" not in text


def test_summary_of_one() -> None:
    """Catches "1 pairs" and "1 rows"."""
    rejections = Rejections()
    for line in range(6):
        rejections.add(line, "blank text: prompt")
    text = render_summary(summary_of(quality_of((label(0.9, 0.8), "a")), rejections))
    assert "1 pair labelled, 6 rows rejected" in text
    assert "of 1 pair (95%" in text
    assert "and 1 more row;" in text
