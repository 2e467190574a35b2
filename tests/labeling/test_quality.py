"""Figures of labelled pairs, against sums done by hand."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from preftree.engine.errors import InputError
from preftree.labeling.report.calibration import Calibration
from preftree.labeling.report.figures import Figures
from preftree.labeling.report.intervals import wilson_interval
from preftree.labeling.report.subsets import MAX_VALUES
from preftree.labeling.types import Message, Pair, PairLabel, Verdict
from tests.labeling.fakes import row, write_rows
from tests.labeling.opened import info_of
from tests.labeling.queried import queried


def label(first: float, second: float, mass: tuple[float, float] = (0.9, 0.7)) -> PairLabel:
    return PairLabel((first + second) / 2, first, second, *mass, 100)


def pair(gold: Verdict | None = None, a: str = "this", b: str = "that", **extra: object) -> Pair:
    return Pair("1", (Message("user", "q"),), a, b, gold, extra)


def quality_of(*labels: tuple[PairLabel, Verdict | None]) -> Figures:
    return queried([(pair(gold), one) for one, gold in labels])


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
    figures = quality.figures()
    assert [figures[name] for name in ("pairs", "ties", "gold_pairs", "gold_ties")] == [5, 1, 3, 1]
    assert figures["agreement"] == pytest.approx(1.5 / 3)


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
    figures = quality.figures()
    assert figures["position_bias"] == pytest.approx(3 / 6)
    assert figures["prefers_first"] == pytest.approx(2 / 3)
    assert figures["mean_gap"] == pytest.approx((0.7 + 0.7 - 0.3 + 0.3 - 0.1 + 0.3) / 6)
    assert figures["mean_absolute_gap"] == pytest.approx((0.7 + 0.7 + 0.3 + 0.3 + 0.1 + 0.3) / 6)


def test_swapping_responses_mirrors_nothing_but_the_verdict() -> None:
    """Catches a bias figure that depends on which response is called A."""
    there = quality_of((label(0.9, 0.2), "a"), (label(0.3, 0.4), "b"))
    back = quality_of((label(0.8, 0.1), "b"), (label(0.6, 0.7), "a"))
    for name in ("position_bias", "prefers_first", "mean_gap", "agreement"):
        assert there.figures()[name] == pytest.approx(back.figures()[name])


def test_label_mass() -> None:
    """Catches an average over pairs that hides the order in which the labels were hardly considered."""
    quality = quality_of((label(0.9, 0.9, (0.9, 0.7)), None), (label(0.9, 0.9, (0.9, 0.3)), None))
    assert quality.figures()["mean_label_mass"] == pytest.approx(0.7)
    assert quality.figures()["low_mass"] == 1


# calibration


def test_calibration_by_hand() -> None:
    """Catches gold ties and pairs without gold in the sums, and an error that is not weighted by pairs."""
    quality = quality_of(
        (label(0.9, 0.7), "a"),  # 0.8, right
        (label(0.8, 0.86), "b"),  # 0.83, wrong
        (label(0.1, 0.2), "b"),  # 0.85, right
        (label(0.1, 0.2), "tie"),
        (label(0.1, 0.2), None),
        (label(0.5, 0.5), "a"),  # half right
    )
    calibration = quality.figures()["calibration"]
    assert calibration["pairs"] == 4
    assert calibration["brier"] == pytest.approx((0.2**2 + 0.83**2 + 0.15**2 + 0.5**2) / 4)
    assert calibration["expected_calibration_error"] == pytest.approx(2 / 4 * abs(0.815 - 0.5) + 1 / 4 * 0.15)
    assert calibration["bins"] == [
        {"from": 0.5, "to": 0.55, "pairs": 1, "mean_confidence": 0.5, "correct": 0.5},
        {"from": 0.8, "to": 0.85, "pairs": 2, "mean_confidence": pytest.approx(0.815), "correct": 0.5},
        {"from": 0.85, "to": 0.9, "pairs": 1, "mean_confidence": pytest.approx(0.85), "correct": 1.0},
    ]


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.0, 9), (0.1, 8), (0.3, 4), (0.45, 1), (0.5, 0), (0.55, 1), (0.7, 4), (0.85, 7), (1 - 2**-52, 9), (1.0, 9)],
)
def test_edges_of_bins(p: float, expected: int) -> None:
    """Catches an eleventh bin for 1, and edges that fall into the bin below."""
    calibration = Calibration()
    calibration.add(np.array([p]), np.array([True]))
    assert calibration.counts.nonzero()[0].tolist() == [expected]


def test_a_forecast_that_is_right_has_little_error() -> None:
    """Catches outcomes taken the wrong way round, in either figure."""
    calibration, inverse = Calibration(), Calibration()
    draws = np.random.default_rng(0)
    p = draws.random(20_000)
    outcome = draws.random(20_000) < p
    calibration.add(p, outcome)
    inverse.add(1 - p, outcome)
    assert calibration.expected_error is not None
    assert inverse.expected_error is not None
    assert calibration.expected_error < 0.02
    assert inverse.expected_error == pytest.approx(0.5, abs=0.02)
    assert calibration.brier == pytest.approx(1 / 6, abs=0.005)
    assert inverse.brier == pytest.approx(1 / 2, abs=0.005)


def test_calibration_does_not_know_which_is_called_a() -> None:
    """Catches an error of a third in a judge that is perfect, in files whose gold is always A."""
    draws = np.random.default_rng(0)
    p = draws.random(20_000)
    outcome = draws.random(20_000) < p
    always_a, mixed = Calibration(), Calibration()
    always_a.add(np.where(outcome, p, 1 - p), np.full(20_000, True))
    mixed.add(p, outcome)
    assert always_a.expected_error == pytest.approx(mixed.expected_error, abs=1e-12)
    assert always_a.expected_error < 0.02  # type: ignore[operator]
    assert always_a.counts.tolist() == mixed.counts.tolist()


def test_calibration_lines() -> None:
    """Catches a table whose columns do not stand below each other, and empty bins in it."""
    many: list[tuple[PairLabel, Verdict]] = [(label(0.85, 0.85), "a")] * 1200
    quality = quality_of(*many, (label(0.3, 0.4), "a"), (label(0.3, 0.4), "b"))
    [figures, confidence, right, pairs] = [text for name, text in quality.lines() if name == "calibration"]
    assert figures == "expected error 0.150, Brier score 0.023 (always 0.5 has 0.250)"
    assert confidence == "confidence  0.6-0.7  0.8-0.9"
    assert right == "right           50%     100%"
    assert pairs == "pairs             2    1,200"


# length


def test_length_bias_by_hand() -> None:
    """Catches ties and equal lengths counted as a choice, and a difference with the wrong sign."""
    cases: list[tuple[str, str, float, Verdict | None]] = [
        ("long text", "short", 0.9, "a"),  # + 4, chosen: longer
        ("x", "two words", 0.2, "a"),  # + 8, longer, against gold
        ("x", "two", 0.7, None),  # - 2, shorter
        ("same", "size", 0.7, "a"),  # equal
        ("long text", "x", 0.5, "b"),  # a tie
    ]
    quality = queried([(pair(gold, a, b), label(p, p)) for a, b, p, gold in cases])
    figures = quality.figures()["length_bias"]
    assert figures["verdicts"] == 3
    assert figures["gold_chose_longer"] == pytest.approx(1 / 3)
    assert figures["mean_chosen_minus_other"] == pytest.approx((4 + 8 - 2 + 0) / 4)
    x, y = (4, -8, -2, 0, 8), (0.4, -0.3, 0.2, 0.2, 0.0)
    both_ways = [*zip(x, y, strict=True), *((-i, -j) for i, j in zip(x, y, strict=True))]
    products = sum(i * j for i, j in both_ways)
    scale = math.sqrt(sum(i * i for i, _ in both_ways) * sum(j * j for _, j in both_ways))
    assert figures["correlation"] == pytest.approx(products / scale)
    assert figures["chose_longer"] == pytest.approx(2 / 3)
    assert figures["chose_longer_interval"] == pytest.approx(wilson_interval(2, 3))
    text, more = (text for name, text in quality.lines() if name == "length bias")
    assert text.startswith("66.7% of 3 verdicts choose the longer response (95% interval 20.8% to 93.9%); gold 33.3%")
    assert more.startswith("chosen minus other: mean +2 characters; correlation of length and p_a +0.52")


def test_length_bias_does_not_know_which_is_called_a() -> None:
    """Catches a correlation about means, which moves when a file writes its pairs the other way round."""
    draws = random.Random(1)
    rows, moved = [], []
    for _ in range(50):
        first, second = draws.randrange(64) / 64, draws.randrange(64) / 64
        one = pair("a", "a" * draws.randrange(1, 90), "b" * draws.randrange(1, 90))
        rows.append((one, label(first, second)))
        moved.append(rows[-1] if draws.random() < 0.5 else (one.swap(), label(1 - second, 1 - first)))
    there, back = (queried(some).figures()["length_bias"] for some in (rows, moved))
    assert there["correlation"] == pytest.approx(back["correlation"], abs=1e-15)
    assert there | {"correlation": 0} == back | {"correlation": 0}


def test_no_lengths_to_choose_between() -> None:
    """Catches a division by zero where all responses are of one length, and where every verdict is a tie."""
    quality = quality_of((label(0.9, 0.9), "a"))
    assert quality.figures()["length_bias"] is None
    tied = queried([(pair(None, "x", "longer"), label(0.5, 0.5))])
    assert tied.figures()["length_bias"] is None
    assert not [name for name, _ in (*quality.lines(), *tied.lines()) if name == "length bias"]


# subsets


def test_agreement_by_subset() -> None:
    """Catches values mixed up, rows without gold counted, and figures of the whole that get lost."""
    cases: list[tuple[object, float, Verdict | None]] = [
        ("sum\x1bmary", 0.9, "a"),
        ("sum\x1bmary", 0.2, "a"),
        (7, 0.5, "b"),
        (None, 0.1, "b"),
        (["nested"], 0.1, "a"),
        ("without gold", 0.1, None),
        ("gold ties", 0.1, "tie"),
    ]
    rows = [(pair(gold, kind=kind), label(p, p)) for kind, p, gold in cases]
    quality = queried([*rows, (pair("b"), label(0.1, 0.1))], "kind")
    figures = quality.figures()
    assert figures["pairs"] == 8
    assert figures["subsets"]["column"] == "kind"
    assert figures["subsets"]["others"] is None
    shares = {one["value"]: (one["pairs"], one["agreement"]) for one in figures["subsets"]["values"]}
    with_gold = {"sum\x1bmary": (2, 0.5), "7": (1, 0.5), "null": (2, 1.0), '["nested"]': (1, 0.0)}
    assert shares == with_gold | {"without gold": (0, None), "gold ties": (0, None)}
    assert figures["subsets"]["values"][0]["agreement_interval"] == wilson_interval(1, 2)
    lines = [text for name, text in quality.lines() if name == "by kind"]
    assert lines[0] == "sum\\x1bmary  50.0% of 2 pairs (95% interval 9.5% to 90.5%)"
    assert len(lines) == 4
    assert ("label mass", "mean 0.800") in quality.lines()
    json.dumps(figures, allow_nan=False)


def test_many_values_do_not_grow() -> None:
    """Catches a column of ids that fills memory and terminal, and long texts kept whole."""
    kinds = [f"{number:03}" + "x" * 1000 for number in range(300)]
    quality = queried([(pair("a", kind=kind), label(0.9, 0.9)) for kind in kinds], "kind")
    subsets = quality.figures()["subsets"]
    assert len(subsets["values"]) == MAX_VALUES
    assert subsets["others"]["pairs"] == 300 - MAX_VALUES
    assert max(len(one["value"]) for one in subsets["values"]) < 100
    assert "all other values" in quality.lines()[-1][1]


def test_what_cannot_be_compared_by_is_said_at_once(tmp_path: Path) -> None:
    """Catches a misspelt column found out after hours of labelling."""
    found = info_of(write_rows(tmp_path / "in.jsonl", [row(gold="a", kind="x", source="y")]))
    found.check_column("kind", "for --by")
    with pytest.raises(InputError, match="no column kinds for --by; it has kind, source"):
        found.check_column("kinds", "for --by")


def test_subsets_without_gold() -> None:
    """Catches a column that cannot be asked for, or values without a line, where nobody has said what is better."""
    labels = [label(0.9, 0.2), label(0.9, 0.8), label(0.3, 0.2)]
    kinds = ("web", "chat", "chat")
    quality = queried([(pair(kind=kind), one) for kind, one in zip(kinds, labels, strict=True)], "kind")
    assert [line for name, line in quality.lines() if name == "by kind"] == [
        "web   1 pair: position bias 100.0%, label mass 0.800, A wins 100.0%",
        "chat  2 pairs: position bias 0.0%, label mass 0.800, A wins 50.0%",
    ]
    web, chat = quality.figures()["subsets"]["values"]
    assert (web["rows"], web["figures"]["position_bias"], web["agreement"]) == (1, 1.0, None)
    assert (chat["rows"], chat["figures"]["position_bias"], chat["agreement"]) == (2, 0.0, None)
