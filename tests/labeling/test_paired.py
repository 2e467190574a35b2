"""Statistics of combinations that judged the same pairs, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from preftree.labeling.comparing.paired import (
    RESAMPLES,
    difference,
    mcnemar_p,
    pairs_needed,
    resampled,
    shares_of_best,
)
from preftree.labeling.report.arrays import Floats


def judges(pairs: int, *accuracies: float) -> Floats:
    """[pairs, judges]: right, wrong or tied at random, and correlated: a hard pair is hard for all."""
    random = np.random.default_rng(7)
    hard = random.random((pairs, 1))
    right = (0.3 * random.random((pairs, len(accuracies))) + 0.7 * hard < accuracies).astype(float)
    right[::11, 0] = 0.5
    return right


@pytest.mark.parametrize("pairs", [30, 419])
def test_the_interval_is_that_of_scipy(pairs: int) -> None:
    """Catches judges that are resampled each on other pairs, whose interval is far too wide."""
    right = judges(pairs, 0.75, 0.6)
    found = difference(right, resampled(right, 0), 0, 1)
    theirs = stats.bootstrap(
        (right[:, 0], right[:, 1]),
        lambda one, other, axis: (one - other).mean(axis=axis),
        paired=True,
        method="percentile",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(1),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert found.mean == pytest.approx((right[:, 0] - right[:, 1]).mean())
    assert abs(found.low - theirs.low) < 0.06 * width
    assert abs(found.high - theirs.high) < 0.06 * width
    apart = [resampled(right[:, [place]], place)[:, 0] for place in (0, 1)]
    low, high = np.quantile(apart[0] - apart[1], (0.025, 0.975)) / pairs
    assert high - low > 1.15 * width


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (3, 3), (10, 2), (7, 19), (400, 460), (30_000, 30_500)])
def test_mcnemar_is_that_of_scipy(wins: int, losses: int) -> None:
    """Catches a one-sided p, one above 1, and sums that overflow."""
    theirs = stats.binomtest(wins, wins + losses, 0.5).pvalue if wins + losses else 1.0
    assert mcnemar_p(wins, losses) == pytest.approx(theirs, rel=1e-9)


def test_the_shares_of_the_best_sum_to_one() -> None:
    """Catches ties that count for both, and a judge that is never best but said to be."""
    right = judges(60, 0.8, 0.8, 0.3)
    twice = np.concatenate([right, right[:, [1]]], axis=1)
    shares = shares_of_best(resampled(twice, 0))
    assert shares.sum() == pytest.approx(1)
    assert shares[1] == shares[3]
    assert shares[2] < 0.01


def test_so_many_pairs_tell_in_four_of_five() -> None:
    """Catches a formula for two samples that are not paired, which asks for twice as many and more."""
    right = judges(4000, 0.66, 0.6)[:, ::-1]
    each = right[:, 0] - right[:, 1]
    needed = pairs_needed(each)
    assert needed is not None
    random = np.random.default_rng(3)
    drawn = random.choice(each, (2000, needed))
    error = drawn.std(axis=1, ddof=1) / needed**0.5
    told = abs(drawn.mean(axis=1)) > 1.96 * error
    assert 0.76 < told.mean() < 0.84
    assert pairs_needed(np.zeros(10)) is None


def test_few_pairs_tell_nothing() -> None:
    """Catches resamples that are all alike because the pairs are: three wins of three may be chance."""
    for wins, ties, is_known, needed in ((3, 1, False, 8), (5, 0, False, 6), (6, 0, True, 6)):
        right = np.array([[1.0, 0.0]] * wins + [[1.0, 1.0]] * ties)
        found = difference(right, resampled(right, 0), 0, 1)
        assert found.low > 0 or ties
        assert (found.is_known, found.pairs_needed) == (is_known, needed)
    right = np.array([[1.0, 0.5]] * 6)
    assert difference(right, resampled(right, 0), 0, 1).mcnemar_p == pytest.approx(2 / 2**6), (
        "a tie against a verdict counts"
    )


def test_nothing_depends_on_the_order_of_pairs() -> None:
    """Catches resamples of another seed, or of pairs by place: a resumed comparison must print the same."""
    right = judges(50, 0.7, 0.6)
    assert (resampled(right, 5) == resampled(right[::-1], 5)).all()
    assert (resampled(right, 5) != resampled(right, 6)).any()
