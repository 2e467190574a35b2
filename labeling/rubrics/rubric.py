"""A rubric: criteria that a response meets or does not meet, each with a weight, and the score that follows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Criterion:
    """A criterion. Strings are one line.

    Attributes:
        name: unique in its rubric; the text where it has no other.
        text: what a response that meets it is or does.
        weight: what meeting it counts; below 0 for a fault.
    """

    name: str
    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class Rubric:
    """What a response is judged by.

    Attributes:
        criteria: one or more with different names; one or more of their weights are above 0.
        weighted: whether weights were given; without, each is 1.
    """

    criteria: tuple[Criterion, ...]
    weighted: bool = True

    @property
    def low(self) -> float:
        """The lowest score, 0 or less: that of a response with every fault and nothing else."""
        return math.fsum(one.weight for one in self.criteria if one.weight < 0) / self._earned

    def score(self, p_yes: Sequence[float]) -> float:
        """sum(w p) / (sum of the weights above 0), from `low` to 1. p_yes: probability that each criterion is met."""
        total = math.fsum(one.weight * p for one, p in zip(self.criteria, p_yes, strict=True))
        return min(max(total / self._earned, self.low), 1.0)

    def reward(self, score: float) -> float:
        """A score, rescaled from its range to [-1, 1]."""
        middle, half = (1.0 + self.low) / 2, (1.0 - self.low) / 2
        return min(max((score - middle) / half, -1.0), 1.0)

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return {"criteria": [asdict(one) for one in self.criteria], "weighted": self.weighted}

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> Rubric:
        """From a `record`."""
        return cls(tuple(Criterion(**one) for one in record["criteria"]), record["weighted"])

    @cached_property
    def _earned(self) -> float:
        return math.fsum(one.weight for one in self.criteria if one.weight > 0)
