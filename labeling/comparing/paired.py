"""Statistics of combinations that judged the same pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from preftree.labeling.report.arrays import Floats
from preftree.labeling.report.intervals import Z_95

RESAMPLES = 10_000
_LEVEL = 0.05
_LEAST_DISCORDANT = 6  # 2 / 2 ** 6 is the first below the level
_Z_POWER = 0.8416212335729143  # of 80%: how often so many pairs would tell


@dataclass(frozen=True)
class Difference:
    """Of two combinations, the first less the second.

    Attributes:
        mean: of agreement with gold.
        low: end of its 95% interval, by paired bootstrap.
        high: the other end.
        mcnemar_p: exact two-sided p of McNemar's test.
        pairs_needed: about how many gold pairs would tell a difference of this size from 0 in four comparisons of five;
            None where there is no difference.
    """

    mean: float
    low: float
    high: float
    mcnemar_p: float
    pairs_needed: int | None

    @property
    def is_known(self) -> bool:
        """Whether the interval leaves 0 out, and McNemar's test agrees: resamples of few pairs are too alike."""
        return (self.low > 0 or self.high < 0) and self.mcnemar_p < _LEVEL


def resampled(right: Floats, seed: int, count: int = RESAMPLES) -> Floats:
    """Bootstrap of agreement (Efron 1979), all combinations on the same drawn pairs.

    Pairs with the same outcome in all combinations are alike, so it is drawn how many there are of each kind: a
    multinomial, with the same distribution as drawing pairs.

    Args:
        right: [pairs, combinations], 1 where a verdict agrees with gold, 0.5 where it ties, 0 else.
        seed: of the draws.
        count: resamples.

    Returns:
        [count, combinations], agreements in each resample: sums of halves, which are exact.
    """
    kinds, numbers = np.unique(right, axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(right), numbers / len(right), size=count)
    found: Floats = drawn @ kinds
    return found


def shares_of_best(resamples: Floats) -> Floats:
    """[combinations]: in what share of the resamples each agrees most; those that tie share it."""
    best = resamples == resamples.max(axis=1, keepdims=True)
    found: Floats = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return found


def difference(right: Floats, resamples: Floats, first: int, second: int) -> Difference:
    """right, resamples: see `resampled`. first, second: columns of both."""
    each = right[:, first] - right[:, second]
    low, high = np.quantile(resamples[:, first] - resamples[:, second], (0.025, 0.975)) / len(right)
    wins, losses = (int(np.count_nonzero(each * sign > 0)) for sign in (1, -1))
    return Difference(float(each.mean()), float(low), float(high), mcnemar_p(wins, losses), pairs_needed(each))


def mcnemar_p(wins: int, losses: int) -> float:
    """Exact two-sided p that two judges are equally often right (McNemar 1947).

    wins: pairs on which the first is right and the second wrong, or one of them ties. losses: the other way round.
    Under the hypothesis one of their n = wins + losses discordant pairs is either with probability 1/2:
    p = 2 P(Binomial(n, 1/2) <= the fewer).
    """
    n, fewer = wins + losses, min(wins, losses)
    if not n:
        return 1.0
    places = np.arange(1, fewer + 1)
    logarithms = np.concatenate([[0.0], np.cumsum(np.log((n - places + 1) / places))]) - n * math.log(2)
    return min(1.0, 2 * float(np.exp(logarithms).sum()))


def pairs_needed(each: Floats) -> int | None:
    """See `Difference`. The usual formula for a paired mean: ((z_0.975 + z_0.8) s / d)^2, s the standard deviation.

    At least as many as have six discordant pairs among them: of fewer, McNemar's test never rejects.

    each: difference on each pair.
    """
    mean = float(each.mean())
    if mean == 0 or len(each) < 2:
        return None
    by_mean = ((Z_95 + _Z_POWER) * float(each.std(ddof=1)) / mean) ** 2
    return math.ceil(max(by_mean, _LEAST_DISCORDANT * len(each) / np.count_nonzero(each)))
