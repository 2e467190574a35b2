"""Scores by rubrics as labels: of one response, or of both responses of a pair."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.labeling.methods.score_labels import ENDS, ends_of, verdict_of
from preftree.labeling.rationales import Rationale, rationale_columns, rationale_values
from preftree.labeling.types import ArrowType, Pair, Response, Sample, Verdict

_CRITERION: dict[str, ArrowType] = {"name": "string", "weight": "double", "p_yes": "double", "label_mass": "double"}


@dataclass(frozen=True)
class CriterionScore:
    """What the judge says of one criterion.

    Attributes:
        name: of the criterion.
        weight: the same.
        p_yes: probability that the response meets it, of yes and no together; the mean over its rationales.
        label_mass: probability of yes and no together, under the whole vocabulary.
        rationales: what the judge wrote before it answered.
    """

    name: str
    weight: float
    p_yes: float
    label_mass: float
    rationales: tuple[Rationale, ...] = ()

    def values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _CRITERION} | rationale_values({"": self.rationales})


@dataclass(frozen=True)
class RubricScore:
    """What the judge says of one response.

    Attributes:
        score: sum(w p_yes) / (sum of the weights above 0).
        reward: the same, rescaled from its range to [-1, 1].
        criteria: in the order of the rubric.
    """

    score: float
    reward: float
    criteria: tuple[CriterionScore, ...]

    @property
    def label_mass(self) -> float:
        """The smallest of the criteria's."""
        return min(one.label_mass for one in self.criteria)


@dataclass(frozen=True)
class RubricLabel:
    """Scores by one rubric. As in `DirectLabel`, the columns of a pair end in _a and _b, and there is no p_a.

    Attributes:
        scores: of the response, or of A and B.
        weighted: whether the rubric gave weights; without, each is 1.
        is_shared: whether all rows have this rubric.
        prompt_tokens: of all prompts.
    """

    scores: tuple[RubricScore, ...]
    weighted: bool
    is_shared: bool
    prompt_tokens: int

    NUMBERS: ClassVar[tuple[str, ...]] = ("score", "reward", "label_mass")

    @classmethod
    def columns(cls, samples: int = 0, kinds: Collection[type[Sample]] = (Response, Pair)) -> dict[str, ArrowType]:
        """Those in which labels of such samples have values. samples: rationales for each criterion."""
        ends = ends_of(kinds)
        criterion = _CRITERION | (rationale_columns(samples, ENDS[:1]) if samples else {})
        verdict: dict[str, ArrowType] = {"verdict": "string"} if Pair in kinds else {}
        numbers: dict[str, ArrowType] = {f"{name}{end}": "double" for end in ends for name in cls.NUMBERS}
        criteria: dict[str, ArrowType] = {f"criteria{end}": [criterion] for end in ends}
        return {**verdict, **numbers, **criteria, "rubric_weighted": "bool"}

    @property
    def verdict(self) -> Verdict | None:
        """None for a single response."""
        return verdict_of([score.reward for score in self.scores])

    def values(self) -> Mapping[str, Any]:
        found: dict[str, Any] = dict.fromkeys(self.columns())
        found |= {"verdict": self.verdict, "rubric_weighted": self.weighted}
        for end, score in zip(ENDS[:1] if len(self.scores) == 1 else ENDS[1:], self.scores, strict=True):
            found |= {f"{name}{end}": getattr(score, name) for name in self.NUMBERS}
            found[f"criteria{end}"] = [one.values() for one in score.criteria]
        return found
