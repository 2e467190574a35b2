"""Win rates of response A, with and without the lengths, and rewards above 0."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preftree.labeling.report import length_adjustment
from preftree.labeling.report.arrays import Choices, Floats
from preftree.labeling.report.figures import Figures, figures_of
from preftree.labeling.report.intervals import wilson_interval
from preftree.labeling.report.length_adjustment import LengthAdjustment
from preftree.labeling.report.logistic import predict
from preftree.labeling.report.win_rate import WinRate
from tests.labeling.by_row.win_rate import at_equal_length, separates, sigmoid

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def fitted(ratios: Any, wins: Any) -> Any:
    return predict(np.array(ratios, float), np.ones(len(ratios)), np.array(wins, float), 1.0)


def drawn(seed: int, size: int, intercept: float, slope: float, stretch: float = 1.0) -> tuple[Floats, Choices]:
    """[size, 2] lengths, and verdicts of which A wins with log-odds intercept + slope * (ratio - 1).

    stretch: how many times as long as those of B the lengths of A are, about.
    """
    draws = np.random.default_rng(seed)
    chars = draws.integers(50, 400, (size, 2)).astype(float) * (stretch, 1.0)
    p = 1 / (1 + np.exp(-intercept - slope * (chars[:, 0] / chars[:, 1] - 1)))
    return chars, np.where(draws.random(size) < p, 1, -1).astype(np.int8)


def win_rate(chars: Floats, verdict: Choices) -> WinRate:
    found = WinRate()
    found.add(verdict, None, chars)
    return found


def table(**columns: Any) -> Figures:
    whole = pa.table(columns)
    figures = Figures(whole.schema, "kind" if "kind" in columns else None)
    for batch in whole.to_batches():
        figures.add(batch)
    return figures


# the share


def test_by_hand() -> None:
    """Catches ties dropped or counted as losses, and a mean over pairs that have no p_a."""
    found = table(verdict=["a", "a", "tie", "b"], p_a=[0.9, None, 0.5, 0.2], response_chars=[[9, 3]] * 4)
    figures = found.figures()["win_rate"]
    assert (figures["pairs"], figures["wins"], figures["share"]) == (4, 2.5, 0.625)
    assert figures["interval"] == wilson_interval(2.5, 4)
    assert figures["mean_p_a"] == pytest.approx(1.6 / 3)
    assert figures["length_adjusted"] is None
    line = dict(found.lines())["win rate of A"]
    assert line == "62.5% of 4 pairs (95% interval 21.9% to 90.8%); no length adjustment"


def test_without_lengths_there_is_only_the_share() -> None:
    """Catches an adjustment that is said to be impossible where nobody has given lengths."""
    assert dict(table(verdict=["a", "b"]).lines())["win rate of A"] == "50.0% of 2 pairs (95% interval 9.5% to 90.5%)"
    nothing = table(verdict=pa.array([], "string"))
    assert nothing.figures()["win_rate"] is None
    assert "win rate of A" not in dict(nothing.lines())


def test_a_swap_mirrors_the_share() -> None:
    """Catches a share that leans to one of the names."""
    chars, verdict = drawn(0, 501, 0.3, 0.5)
    verdict[:7] = 0
    there, back = win_rate(chars, verdict).figures(), win_rate(chars[:, ::-1], (-verdict).astype(np.int8)).figures()
    assert there is not None
    assert back is not None
    assert there["share"] + back["share"] == pytest.approx(1)
    assert there["interval"] == pytest.approx([1 - end for end in back["interval"][::-1]])


def test_the_line_is_short() -> None:
    """Catches a line that does not fit 100 columns beside the longest name, "agreement with gold"."""
    chars, verdict = drawn(1, 300, 0.2, 0.3)
    found = win_rate(np.tile(chars, (4000, 1)), np.tile(verdict, 4000))
    [(name, text)] = found.lines()
    assert name == "win rate of A"
    assert "1,200,000 pairs" in text
    assert text.endswith("% at equal length")
    assert len("agreement with gold") + 2 + len(text) <= 100


# the adjustment


@pytest.mark.parametrize("seed", range(60))
def test_as_bisection(seed: int) -> None:
    """Catches steps that stop early or run away, a wrong information matrix, and a fit of data that have none."""
    draws = random.Random(seed)
    for _ in range(8):
        size = draws.randrange(1, 25)
        lengths = [draws.choice([1, 5, 7, 9, 30, 31, 4000]) for _ in range(2 * size)]
        ratios = [a / b for a, b in zip(lengths[::2], lengths[1::2], strict=True)]
        wins = [draws.choice([0, 0.5, 1, ratio > 1, ratio > 1]) for ratio in ratios]
        found, expected = fitted(ratios, wins), at_equal_length(ratios, wins)
        assert (found is None) == (expected is None) == separates(ratios, wins), (ratios, wins)
        if found is not None and expected is not None:
            assert (found.log_odds, found.error, found.slope) == pytest.approx(expected, rel=1e-7, abs=1e-9)
            assert found.interval == pytest.approx(
                [sigmoid(expected[0] + sign * 1.959963984540054 * expected[1]) for sign in (-1, 1)], abs=1e-8
            )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("ratios", "wins"),
    [
        ([1.0], [0.5]),
        ([1.0] * 6, [1, 0, 1, 0, 0.5, 1]),  # lengths are always equal
        ([2.0] * 3, [1, 0, 1]),  # or always differ alike
        ([0.5, 1.0, 2.0], [1, 1, 1]),
        ([0.5, 1.0, 2.0], [0, 0, 0]),
        ([0.5, 0.9, 1.1, 2.0], [0, 0, 1, 1]),
        ([0.5, 0.9, 1.1, 2.0], [1, 1, 0, 0]),
        ([0.5, 1.0, 1.0, 2.0], [0, 0, 1, 1]),  # separated but for one ratio
        ([0.5, 1.0, 2.0], [0, 0.5, 1]),
        ([1e-9, 1.0, 1e9], [0, 0, 1]),
    ],
)
def test_no_adjustment_is_possible(ratios: list[float], wins: list[float]) -> None:
    """Catches infinities, warnings and a win rate of 100% where no finite maximum of the likelihood exists."""
    assert separates(ratios, wins)
    assert fitted(ratios, wins) is None
    lengths = LengthAdjustment()
    lengths.add(np.array([[1000 * ratio, 1000.0] for ratio in ratios]).reshape(-1, 2), np.array(wins, float))
    assert lengths.figures() is None


@pytest.mark.filterwarnings("error")
def test_nearly_separated() -> None:
    """Catches an overflow on the way to large coefficients, and an interval that leaves 0 to 1."""
    ratios = [*np.linspace(0.1, 0.999, 500), 1.0, 1.0000001, *np.linspace(1.001, 1e6, 500)]
    found = fitted(ratios, [*[0] * 500, 1, 0, *[1] * 500])
    assert found is None or 0 <= found.interval[0] <= found.share <= found.interval[1] <= 1
    found = fitted([0.5, 1.0, 1.1, 2.0], [0, 1, 0, 1])
    assert found is not None
    assert math.isfinite(found.slope)


def test_it_takes_away_what_length_adds() -> None:
    """Catches the win rate at the mean length, or at a difference with the wrong sign, called that at equal length."""
    figures = win_rate(*drawn(2, 20_000, 0.0, 2.0, 1.5)).figures()
    assert figures is not None
    assert figures["share"] > 0.65
    low, high = figures["length_adjusted"]["interval"]
    assert low < 0.5 < high
    assert high - low < 0.04
    assert figures["length_adjusted"]["log_odds_per_ratio"] == pytest.approx(2.0, abs=0.1)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Catches an error of the slope, or of the mean length, taken for that of the win rate at equal length."""
    covered, truth = 0, sigmoid(0.4)
    for seed in range(400):
        found = win_rate(*drawn(seed, 300, 0.4, 0.8, 1.5)).lengths.prediction()  # few of about equal length
        assert found is not None
        covered += found.interval[0] < truth < found.interval[1]
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.filterwarnings("error")
def test_pairs_without_both_lengths_are_left_out() -> None:
    """Catches a division by an empty response, and a ratio that is not a number in the sums."""
    chars, verdict = drawn(3, 200, 0.2, 0.5)
    odd = np.array([[0, 5], [5, 0], [0, 0], [np.nan, 5], [5, np.nan], [np.inf, 5], [-1, 5], [5, 1e300]])
    some = win_rate(np.concatenate((odd, chars)), np.concatenate((np.ones(len(odd), np.int8), verdict)))
    figures, expected = some.figures(), win_rate(chars, verdict).figures()
    assert figures is not None
    assert expected is not None
    assert figures["pairs"] == 208
    assert figures["length_adjusted"] == expected["length_adjusted"]
    assert figures["length_adjusted"]["pairs"] == 200


def test_many_pairs_are_counted_by_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches memory that grows with the pairs, and bins that move the win rate, also where pieces end elsewhere."""
    chars, verdict = drawn(4, 150_000, 0.1, 0.6)
    whole, pieces = win_rate(chars, verdict), WinRate()
    for start in range(0, len(verdict), 9_999):
        pieces.add(verdict[start : start + 9_999], None, chars[start : start + 9_999])
    for one in (whole, pieces):
        assert sum(each.shape[1] for each in one.lengths._tables) <= 2 * length_adjustment._EXACT_PAIRS
    binned, again = whole.lengths.prediction(), pieces.lengths.prediction()
    monkeypatch.setattr(length_adjustment, "_EXACT_PAIRS", 1 << 20)
    exact = win_rate(chars, verdict).lengths.prediction()
    assert exact is not None
    assert binned is not None
    assert again is not None
    assert binned.share == pytest.approx(exact.share, abs=1e-6)
    assert binned.interval == pytest.approx(exact.interval, abs=1e-6)
    assert again.share == pytest.approx(binned.share, abs=1e-12)
    assert binned.share != exact.share


# rewards


def test_rewards_above_0() -> None:
    """Catches both responses of a pair in one rate, the middle of the scale counted, and rows without a reward."""
    ends = ("", "_a", "_b")
    rewards: dict[str, list[float | None]] = {
        "": [0.5, 0.0, -0.1, 1e-9, None, None],
        "_a": [None, None, None, None, 0.3, -0.3],
        "_b": [None, None, None, None, -1.0, -0.2],
    }
    columns: dict[str, Any] = {}
    for end in ends:
        values = pa.array(rewards[end], "double")
        columns |= {f"reward{end}": values, f"score{end}": values}
    found = table(**columns, kind=["x", "x", "y", "y", "y", "y"])
    figures = found.figures()
    assert figures["reward_above_0"] == {"responses": 4, "share": 0.5, "interval": wilson_interval(2, 4)}
    assert [figures[f"reward_above_0{end}"]["share"] for end in ends[1:]] == [0.5, 0.0]
    assert [text for name, text in found.lines() if name == "reward above 0"] == [
        "50.0% of 4 responses (95% interval 15.0% to 85.0%)",
        "A: 50.0% of 2 responses (95% interval 9.5% to 90.5%)",
        "B: 0.0% of 2 responses (95% interval 0.0% to 65.8%)",
    ]
    x, y = (one["figures"] for one in figures["subsets"]["values"])
    assert (x["reward_above_0"]["share"], x["reward_above_0_a"]) == (0.5, None)
    assert (y["reward_above_0_b"]["responses"], y["win_rate"]["share"]) == (2, 0.5)
    assert figures["win_rate"]["mean_p_a"] is None


def test_scores_alone_have_no_rewards() -> None:
    """Catches a threshold of 0 on scores, whose scale is not known."""
    figures = table(score=[3.0, 4.0]).figures()
    assert figures["reward_above_0"] is None


# by subsets, from a file


def test_by_subset(tmp_path: Path) -> None:
    """Catches win rates of the whole in the subsets, and texts read although lengths are there."""
    path = tmp_path / "labels.parquet"
    chars, verdict = drawn(5, 600, 0.5, 0.5)
    columns: dict[str, Any] = {
        "verdict": [{1: "a", 0: "tie", -1: "b"}[one] for one in verdict.tolist()],
        "kind": ["x" if place % 3 else "y" for place in range(600)],
    }
    parquet.write_table(
        pa.table(columns | {"response_chars": chars.astype(int).tolist(), "response_a": ["?"] * 600}), path
    )
    x, y = (one["figures"]["win_rate"] for one in figures_of(path, "kind").figures()["subsets"]["values"][::-1])
    for found, mask in ((x, np.arange(600) % 3 > 0), (y, np.arange(600) % 3 == 0)):
        assert found == win_rate(chars[mask], verdict[mask]).figures()
    assert x["share"] != y["share"]
    texts = {f"response_{which}": ["x" * int(one) for one in chars[:, place]] for place, which in enumerate("ab")}
    parquet.write_table(pa.table(columns | texts), path)
    assert figures_of(path).figures()["win_rate"] == win_rate(chars, verdict).figures()
    lines = [text for name, text in figures_of(path, "kind").lines() if name == "by kind"]
    assert lines == [f"y  200 pairs: A wins {y['share']:.1%}", f"x  400 pairs: A wins {x['share']:.1%}"]
