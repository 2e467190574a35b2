"""The binomial distribution in float64: its lower tail, and the exact bound of a share that follows from it."""

from __future__ import annotations

import math
from functools import cache

_HALVINGS = 100


@cache
def tail(successes: int, trials: int, share: float) -> float:
    """P(X <= successes) of a binomial X; 1 without trials. share: above 0 and below 1."""
    if successes >= trials:
        return 1.0
    of_one, of_other = math.log(share), math.log1p(-share)
    whole = math.lgamma(trials + 1)
    terms = (
        math.exp(whole - math.lgamma(x + 1) - math.lgamma(trials - x + 1) + x * of_one + (trials - x) * of_other)
        for x in range(successes + 1)
    )
    return min(1.0, math.fsum(terms))


def upper_bound(successes: int, trials: int, level: float) -> float:
    """One-sided upper bound of a share (Clopper and Pearson 1934): the largest that leaves the tail above `level`.

    A true share is above it with a probability of `level` at most, however few trials there are.
    """
    if successes >= trials:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if tail(successes, trials, middle) > level else (low, middle)
    return high
