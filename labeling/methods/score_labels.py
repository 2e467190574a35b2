"""Direct scores as labels: of one response, or of both responses of a pair."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.labeling.rationales import Rationale, rationale_columns, rationale_values
from preftree.labeling.types import ArrowType, Pair, Response, Sample, Verdict

ENDS = ("", "_a", "_b")  # of columns: of a single response, of the first and of the second of a pair
SCORE_FIELDS: dict[str, ArrowType] = {
    "score": "double",
    "reward": "double",
    "mode": "double",
    "entropy": "double",
    "label_mass": "double",
    "distribution": ["double"],
}


def ends_of(kinds: Collection[type[Sample]]) -> tuple[str, ...]:
    """Of `ENDS` those of columns in which such samples have values."""
    return (*(ENDS[:1] if Response in kinds else ()), *(ENDS[1:] if Pair in kinds else ()))


def verdict_of(rewards: Sequence[float]) -> Verdict | None:
    """For the higher reward of a pair; None for a single response."""
    if len(rewards) == 1:
        return None
    reward_a, reward_b = rewards
    if reward_a == reward_b:
        return "tie"
    return "a" if reward_a > reward_b else "b"


@dataclass(frozen=True)
class Score:
    """What the judge says of one response.

    score: mean of the distribution. reward: the score in [-1, 1], 1 being the preferred end. mode: the most probable
    number; of equally probable ones, that of the first label. entropy: of the distribution, in nats. label_mass:
    probability that the model gave to the labels at all. distribution: over the labels in their order, sums to 1; where
    the judge explained several times, the mean of what it gave behind each of its `rationales`.
    """

    score: float
    reward: float
    mode: float
    entropy: float
    label_mass: float
    distribution: tuple[float, ...]
    rationales: tuple[Rationale, ...] = ()


@dataclass(frozen=True)
class DirectLabel:
    """scores: of the response, or of A and B. prompt_tokens: of all prompts.

    The columns of a single response have the names of `Score`, those of a pair end in _a and _b, and the others are
    None. A pair's verdict goes to the higher reward. There is no p_a: two scores do not say how sure their order is.
    """

    scores: tuple[Score, ...]
    prompt_tokens: int

    COLUMNS: ClassVar[Mapping[str, ArrowType]] = {
        "verdict": "string",
        **{f"{name}{end}": kind for end in ENDS for name, kind in SCORE_FIELDS.items()},
    }

    @classmethod
    def filled(cls, kinds: Collection[type[Sample]], samples: int) -> dict[str, ArrowType]:
        """The columns in which labels of such samples have values. samples: rationales for each response."""
        ends = ends_of(kinds)
        names = {f"{name}{end}" for end in ends for name in SCORE_FIELDS} | ({"verdict"} if Pair in kinds else set())
        rationales = rationale_columns(samples, ends) if samples else {}
        return {name: kind for name, kind in cls.COLUMNS.items() if name in names} | rationales

    @property
    def verdict(self) -> Verdict | None:
        """None for a single response."""
        return verdict_of([score.reward for score in self.scores])

    def values(self) -> dict[str, Any]:
        found: dict[str, Any] = dict.fromkeys(self.COLUMNS)
        found["verdict"] = self.verdict
        if self.scores[0].rationales:
            found |= dict.fromkeys(rationale_columns(1, ENDS))
        for end, score in zip(ENDS[:1] if len(self.scores) == 1 else ENDS[1:], self.scores, strict=True):
            found |= {f"{name}{end}": getattr(score, name) for name in SCORE_FIELDS}
            found |= rationale_values({end: score.rationales})
        return found
