"""The threshold of acceptance: its guarantee under simulated gold, its coverage, and its bounds against scipy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import stats

from preftree.labeling.calibration import acceptance
from preftree.labeling.calibration.acceptance import Acceptance, accept
from preftree.labeling.calibration.binomial import tail, upper_bound
from preftree.labeling.report.arrays import Floats, Mask
from preftree.labeling.report.intervals import wilson_interval

LABELS = 5000
NONE = np.empty(0)


class Judge(NamedTuple):
    """Confidences are uniform from 0.5 to 1. error: of a verdict, by its confidence."""

    error: Callable[[Floats], Any]
    max_error: float


# Where confidence says much, where all labels are good, and where nearly all thresholds are just too wrong.
STEEP = Judge(lambda c: 0.5 / (1 + np.exp(40 * (c - 0.7))) + 0.01, 0.1)
STRICT = Judge(STEEP.error, 0.05)
GOOD = Judge(lambda c: np.where(c < 0.6, 0.32, 0.02), 0.1)
CALIBRATED = Judge(lambda c: 1 - c, 0.2)
JUST_WRONG = Judge(lambda c: np.full(len(c), 0.1001), 0.1)
UPSIDE_DOWN = Judge(lambda c: np.where(c > 0.8, 0.25, 0.0), 0.1)


DELTA = 0.1


class Drawn(NamedTuple):
    """Gold, and the share of all labels that are accepted by it."""

    confidence: Floats
    right: Mask
    coverage: float


def drawn(judge: Judge, repetitions: int, pairs: int = 500, labels: int = LABELS) -> Iterator[Drawn]:
    draws = np.random.default_rng(0)
    for _ in range(repetitions):
        confidence, others = draws.uniform(0.5, 1, pairs), draws.uniform(0.5, 1, labels)
        right = draws.random(pairs) >= judge.error(confidence)
        threshold = accept(confidence, right, others, judge.max_error, 1 - DELTA).threshold
        yield Drawn(confidence, right, 0.0 if threshold is None else 2 * (1 - threshold))


def check_guarantee(judge: Judge, repetitions: int, **sizes: int) -> None:
    """The true error is too high in at most DELTA of the repetitions, within the 95% interval of that share."""
    every = np.linspace(1, 0.5, 100_000, endpoint=False)
    error = np.cumsum(judge.error(every)) / np.arange(1, len(every) + 1)
    coverages = [one.coverage for one in drawn(judge, repetitions, **sizes)]
    broken = sum(bool(error[int(one * len(every)) - 1] > judge.max_error) for one in coverages if one)
    assert wilson_interval(broken, repetitions)[0] <= DELTA, broken


def hindsight(one: Drawn, max_error: float) -> float:
    """The coverage of the laxest threshold whose bound holds on the very gold pairs, were it the only one tested."""
    errors = np.cumsum(~one.right[np.argsort(-one.confidence)]).tolist()
    pairs = range(len(errors), 0, -1)
    return next((n for n in pairs if tail(errors[n - 1], n, max_error) <= DELTA), 0) / len(errors)


def check_coverage(judge: Judge, repetitions: int) -> None:
    found = [(one.coverage, hindsight(one, judge.max_error)) for one in drawn(judge, repetitions)]
    coverage, best = np.mean(found, axis=0)
    assert coverage > 0.3
    assert best - coverage <= 0.05


@pytest.mark.parametrize("judge", [STEEP, CALIBRATED, JUST_WRONG, UPSIDE_DOWN])
def test_the_error_is_within_bounds(judge: Judge) -> None:
    """Catches thresholds that are chosen by errors, and a level that is spent twice: most draws would break it."""
    check_guarantee(judge, 40)


def test_coverage_is_near_the_best() -> None:
    """Catches a walk that one error among the first pairs ends."""
    check_coverage(STEEP, 20)


@pytest.mark.soak
@pytest.mark.parametrize("pairs", [100, 500])
@pytest.mark.parametrize("labels", [0, LABELS])
@pytest.mark.parametrize("judge", [STEEP, STRICT, GOOD, CALIBRATED, JUST_WRONG, UPSIDE_DOWN])
def test_the_error_is_within_bounds_a_thousand_times(judge: Judge, labels: int, pairs: int) -> None:
    if judge is UPSIDE_DOWN and not labels:
        pytest.skip("thresholds by gold alone need surer labels that are not more often wrong")
    check_guarantee(judge, 1000, pairs=pairs, labels=labels)


@pytest.mark.soak
@pytest.mark.parametrize("judge", [STEEP, STRICT, GOOD, CALIBRATED])
def test_coverage_is_near_the_best_a_thousand_times(judge: Judge) -> None:
    check_coverage(judge, 1000)


@pytest.mark.parametrize(("errors", "pairs"), [(0, 59), (3, 59), (58, 59), (400, 5000), (0, 1)])
def test_binomial_bounds_are_those_of_scipy(errors: int, pairs: int) -> None:
    """Catches a tail that is that of the complement, and a two-sided bound."""
    for share in (0.01, 0.1, 0.9):
        assert tail(errors, pairs, share) == pytest.approx(stats.binom.cdf(errors, pairs, share), rel=1e-9, abs=1e-300)
    for level in (0.05, 0.2):
        assert upper_bound(errors, pairs, level) == pytest.approx(stats.beta.ppf(1 - level, errors + 1, pairs - errors))
    assert upper_bound(pairs, pairs, 0.05) == 1.0


def test_fifty_nine_pairs_without_an_error() -> None:
    """Catches a bound that is off by a pair: 0.95^59 is the first power below 0.05."""
    confidence = np.linspace(0.6, 0.9, 59)
    found = accept(confidence, np.ones(59, bool), NONE, 0.05, 0.95)
    assert (found.threshold, found.accepted_gold, found.errors) == (0.6, 59, 0)
    assert found.bound == pytest.approx(1 - 0.05 ** (1 / 59))
    assert accept(confidence[1:], np.ones(58, bool), NONE, 0.05, 0.95).threshold is None
    assert accept(confidence, confidence > 0.6, NONE, 0.05, 0.95).threshold is None


def test_equal_confidences_and_ties() -> None:
    """Catches a threshold inside of a group of equal labels, and a label of 0.5 that is accepted."""
    confidence = np.repeat([0.9, 0.7, 0.5], 200)
    found = accept(confidence, confidence > 0.5, np.repeat([0.9, 0.7, 0.5], 100), 0.05, 0.95)
    assert (found.threshold, found.accepted_gold, found.accepted_labels, found.labels) == (0.7, 400, 600, 900)
    assert [found.accepts(p) for p in (0.7, 0.3, 0.31, 0.5)] == [True, True, False, False]
    assert accept(np.full(200, 0.5), np.zeros(200, bool), NONE, 0.05, 0.95).threshold is None


def test_thresholds_and_walks_do_not_follow_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a grid that looks at what it is tested on."""
    seen = []
    monkeypatch.setattr(acceptance, "_walked", lambda above, begins, *_: seen.append((above, begins)))
    draws = np.random.default_rng(0)
    confidence, others = draws.uniform(0.5, 1, 300), draws.uniform(0.5, 1, 500)
    for right in (np.ones(300, bool), np.zeros(300, bool), draws.random(300) < 0.5):
        accept(confidence, right, others, 0.1, 0.9)
    grids = {(tuple(one.threshold for one in above), *begins.items()) for above, begins in seen}
    assert len(grids) == 1


@pytest.mark.parametrize(("wrong_every", "says"), [(0, "59 without"), (30, "; about "), (3, "no number of gold")])
def test_what_it_would_take(wrong_every: int, says: str) -> None:
    """Catches a way out that is none: more gold of a judge that is wrong too often."""
    right = np.array([wrong_every == 0 or place % wrong_every < wrong_every - 1 for place in range(50)])
    found = accept(np.linspace(0.99, 0.6, 50), right, NONE, 0.05, 0.95)
    assert (found.threshold, found.enough, found.ordered_by_gold) == (None, 59, True)
    assert says in dict(found.lines())["gold pairs needed"]
    assert found.estimate is None or found.estimate > 50


def test_the_estimate_is_about_right() -> None:
    """Catches an estimate that is off by a factor: with so many pairs most draws must pass."""
    draws, confidence = np.random.default_rng(0), np.linspace(0.6, 0.9, 60)
    estimate = accept(confidence, confidence < 0.9, NONE, 0.05, 0.95).estimate  # of 1.5 errors in 61 pairs
    assert estimate is not None
    for times, least, most in ((1, 10, 20), (0.2, 0, 8)):
        pairs = int(times * estimate)
        gold = [(draws.uniform(0.5, 1, pairs), draws.random(pairs) >= 1.5 / 61) for _ in range(20)]
        passed = sum(accept(*one, NONE, 0.05, 0.95).threshold is not None for one in gold)
        assert least <= passed <= most


def test_records() -> None:
    """Catches a field that is lost in CAL.json, and a threshold that accepts everything."""
    found = accept(np.linspace(0.6, 0.9, 59), np.ones(59, bool), np.linspace(0.5, 0.7, 41), 0.05, 0.95)
    record = found.record()
    assert Acceptance.recorded(record) == found
    assert record["labels_coverage"] == found.accepted_labels / 100
    assert record["gold_coverage_interval"] == list(wilson_interval(59, 59))
    with pytest.raises(ValueError, match=r"threshold 0\.5"):
        Acceptance.recorded(replace(found, threshold=0.5).record())
