"""Log-probabilities of labels of which one may begin another, as those of events that exclude each other.

P("1") of an answer's first tokens holds every answer that goes on as "10". Where "1" and "10" are both labels,
P of exactly "1" is P("1") - P("10") = P("1") (1 - P("0" | "1")). Where "10" is one token there is nothing to take away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# Log-probabilities are float32: of what a label has, less than this share cannot be told from nothing. It keeps the
# difference above zero, and its logarithm finite, where rounding would not.
_RESOLUTION = 2.0**-24


def disjoint(logprob: Sequence[float], labels: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Of each label and no longer one, in nats; exp of them sums to the mass of the labels.

    logprob: of each label's tokens, whatever follows them. labels: their token ids, distinct. nan where one of the
    numbers that it takes is not finite.
    """
    if len({len(label) for label in labels}) == 1:
        return tuple(logprob)
    place = {tuple(label): index for index, label in enumerate(labels)}
    longer: list[list[float]] = [[] for _ in labels]
    for label, index in place.items():
        begun = (place.get(label[:length]) for length in range(len(label) - 1, 0, -1))
        shorter = next((found for found in begun if found is not None), None)
        if shorter is not None:
            longer[shorter].append(logprob[index])
    return tuple(_without(whole, parts) if parts else whole for whole, parts in zip(logprob, longer, strict=True))


def _without(whole: float, parts: Sequence[float]) -> float:
    """log(exp(whole) - sum of exp(parts))."""
    if not all(map(math.isfinite, (whole, *parts))):
        return math.nan
    largest = max(parts)
    inside = largest + math.log(math.fsum(math.exp(part - largest) for part in parts))
    share = min(inside - whole, -_RESOLUTION)
    return whole + (math.log(-math.expm1(share)) if share > -math.log(2.0) else math.log1p(-math.exp(share)))
