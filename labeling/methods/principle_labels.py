"""What a pair's label holds when principles judge it (SALMON, Sun et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.labeling.methods.aggregates import Aggregate
from preftree.labeling.methods.probability import probability
from preftree.labeling.rationales import Rationale, rationale_values
from preftree.labeling.types import ArrowType, Verdict


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
        return (self.s12 > 0 and self.s21 > 0) or (self.s12 < 0 and self.s21 < 0)

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
