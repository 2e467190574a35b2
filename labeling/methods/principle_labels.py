"""What a pair's label holds when principles judge it (SALMON, Sun et al. 2023), and how their scores become a verdict.

Exchanging A and B flips every verdict exactly. A principle that contradicts itself counts as a tie, and one of weight 0
does not count at all. A rule takes the principles that count, one or more, and their scores, 0 for one that contradicts
itself; only `scaled` looks at other rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.labeling.grid import on_grid
from preftree.labeling.methods.probability import probability
from preftree.labeling.orders import orders_agree
from preftree.labeling.principles.principle import Principle
from preftree.labeling.rationales import Rationale, rationale_values
from preftree.labeling.types import ArrowType, Verdict

SCALED = "scaled"
_NOTHING: Mapping[str, float] = {}


@dataclass(frozen=True)
class PrincipleScore:
    """How a principle judges A against B: log-probability for A less that for B, in nats, above 0 where A is better.

    s12: with A shown first. s21: with B shown first. label_mass_first, label_mass_second: probability that the model
    gave to the labels at all, in the same orders. rationales_first, rationales_second: what the judge wrote there.
    Behind several rationales s12 and s21 are the log odds of the mean of the probabilities, so that they and their
    mean mean the same as with one.
    """

    name: str
    s12: float
    s21: float
    label_mass_first: float
    label_mass_second: float
    rationales_first: tuple[Rationale, ...] = ()
    rationales_second: tuple[Rationale, ...] = ()

    FIELDS: ClassVar[Mapping[str, ArrowType]] = {
        "name": "string",
        "s12": "double",
        "s21": "double",
        "score": "double",
        "consistent": "bool",
        "p": "double",
        "label_mass_first": "double",
        "label_mass_second": "double",
    }

    @property
    def score(self) -> float:
        """Mean of both orders, whether they agree or not."""
        return (self.s12 + self.s21) / 2

    @property
    def consistent(self) -> bool:
        """Whether both orders prefer the same response."""
        return bool(orders_agree(self.s12, self.s21, tie=0.0))

    @property
    def counted(self) -> float:
        """The score; 0, a tie, where the principle is not consistent."""
        return self.score if self.consistent else 0.0

    @property
    def p(self) -> float:
        """Probability that A is better, of the score: 1 / (1 + exp(-score))."""
        return probability(self.score)

    def values(self) -> dict[str, Any]:
        rationales = {"_first": self.rationales_first, "_second": self.rationales_second}
        return {name: getattr(self, name) for name in self.FIELDS} | rationale_values(rationales)


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
    """The score farthest from 0 decides, in nats; of several, that of the first principle. p_a is its probability."""
    return scaled(principles, scores, {})


def scaled(
    principles: Sequence[Principle], scores: Sequence[float], variances: Mapping[str, float] = _NOTHING
) -> Aggregate:
    """The score decides that is farthest from 0 when it is divided by its principle's variance over the run.

    So SALMON's released code has it. The margin is that score as it is, in nats, so that p_a is its probability.
    variances: by name; a principle without one, or with 0, is compared as it is.
    """
    divided = [abs(score) / (variances.get(one.name) or 1.0) for one, score in zip(principles, scores, strict=True)]
    index = max(range(len(divided)), key=divided.__getitem__)
    margin = scores[index]
    return Aggregate(margin, probability(margin), principles[index].name if margin else None)


def weighted(principles: Sequence[Principle], scores: Sequence[float]) -> Aggregate:
    """The mean of the scores by weight, in nats, and its probability."""
    largest = max(principle.weight for principle in principles)
    weights = [principle.weight / largest for principle in principles]  # finite sums, however large they are
    total = math.fsum(weight * score for weight, score in zip(weights, scores, strict=True))
    margin = total / math.fsum(weights)
    return Aggregate(margin, probability(margin))


def won(principles: Sequence[Principle], scores: Sequence[float]) -> Aggregate:
    """The share of the principles that A wins less that which B wins. p_a is the share that A wins, ties as halves."""
    margin = (sum(score > 0 for score in scores) - sum(score < 0 for score in scores)) / len(scores)
    return Aggregate(margin, 0.5 + on_grid(margin / 2))


Rule = Callable[[Sequence[Principle], Sequence[float]], Aggregate]
AGGREGATES: Mapping[str, Rule] = {"strongest": strongest, "weighted": weighted, "won": won, SCALED: scaled}
BY_ONE = ("strongest", SCALED)  # rules by which one principle decides


@dataclass(frozen=True)
class SalmonLabel:
    """principles: all that judged the pair, in the order of their file. prompt_tokens: of all prompts."""

    aggregate: Aggregate
    principles: tuple[PrincipleScore, ...]
    prompt_tokens: int

    COLUMNS: ClassVar[Mapping[str, ArrowType]] = {
        "p_a": "double",
        "verdict": "string",
        "decided_by": "string",
        "margin": "double",
        "consistent": "int64",
        "principles": [dict(PrincipleScore.FIELDS)],
    }

    @property
    def verdict(self) -> Verdict:
        return self.aggregate.verdict

    def values(self) -> dict[str, Any]:
        return {
            "p_a": self.aggregate.p_a,
            "verdict": self.verdict,
            "decided_by": self.aggregate.decided_by,
            "margin": self.aggregate.margin,
            "consistent": sum(score.consistent for score in self.principles),
            "principles": [score.values() for score in self.principles],
        }
