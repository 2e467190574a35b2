"""How the scores of principles become one verdict on a pair. Exchanging A and B flips every one of them exactly.

A principle that contradicts itself counts as a tie, and one of weight 0 does not count at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from preftree.labeling.methods.probability import on_grid, probability
from preftree.labeling.principles.principle import Principle
from preftree.labeling.types import Verdict


@dataclass(frozen=True)
class Aggregate:
    """margin: above 0 for A, exactly 0 for a tie. p_a: above 0.5 for A. decided_by: the principle, where it was one."""

    margin: float
    p_a: float
    decided_by: str | None = None

    @property
    def verdict(self) -> Verdict:
        if self.margin == 0:
            return "tie"
        return "a" if self.margin > 0 else "b"


def strongest(principles: Sequence[Principle], scores: Sequence[float]) -> Aggregate:
    """The score farthest from 0 decides, in nats; of several, that of the first principle. p_a is its probability.

    principles: those that count, one or more. scores: of each, 0 where it contradicts itself.
    """
    index = max(range(len(scores)), key=lambda i: abs(scores[i]))
    margin = scores[index]
    return Aggregate(margin, probability(margin), principles[index].name if margin else None)


def weighted(principles: Sequence[Principle], scores: Sequence[float]) -> Aggregate:
    """The mean of the scores by weight, in nats, and its probability. Arguments as in `strongest`."""
    largest = max(principle.weight for principle in principles)
    weights = [principle.weight / largest for principle in principles]  # finite sums, however large they are
    total = math.fsum(weight * score for weight, score in zip(weights, scores, strict=True))
    margin = total / math.fsum(weights)
    return Aggregate(margin, probability(margin))


def won(principles: Sequence[Principle], scores: Sequence[float]) -> Aggregate:
    """The share of the principles that A wins less that which B wins. p_a: the share that A wins, with ties as halves.

    Arguments as in `strongest`.
    """
    margin = (sum(score > 0 for score in scores) - sum(score < 0 for score in scores)) / len(scores)
    return Aggregate(margin, 0.5 + on_grid(margin / 2))


Rule = Callable[[Sequence[Principle], Sequence[float]], Aggregate]
AGGREGATES: Mapping[str, Rule] = {"strongest": strongest, "weighted": weighted, "won": won}
