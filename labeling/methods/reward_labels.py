"""Rewards as labels: of one response, of both responses of a pair, or of several."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from preftree.labeling.methods.probability import probability
from preftree.labeling.types import ArrowType, Pair, Response, ResponseSet, Sample, Verdict

Kind = Literal["response", "pair", "set"]
_OF_KINDS: Mapping[type[Sample], tuple[str, ...]] = {
    Response: ("reward", "normalized_reward"),
    Pair: ("p_a", "verdict", "reward_a", "reward_b", "normalized_reward_a", "normalized_reward_b"),
    ResponseSet: ("rewards", "normalized_rewards", "ranking"),
}


@dataclass(frozen=True)
class RewardLabel:
    """What a reward model says of the responses of a row.

    Attributes:
        kind: of the row.
        rewards: of each response.
        normalized: the same with mean 0 and standard deviation 1 on the responses that were held out in training; ()
            where the model does not say what these were.
        prompt_tokens: of all inputs.
    """

    kind: Kind
    rewards: tuple[float, ...]
    normalized: tuple[float, ...]
    prompt_tokens: int

    COLUMNS: ClassVar[Mapping[str, ArrowType]] = {
        "p_a": "double",
        "verdict": "string",
        "reward": "double",
        "reward_a": "double",
        "reward_b": "double",
        "rewards": ["double"],
        "normalized_reward": "double",
        "normalized_reward_a": "double",
        "normalized_reward_b": "double",
        "normalized_rewards": ["double"],
        "ranking": ["int64"],
    }

    @classmethod
    def filled(cls, kinds: Collection[type[Sample]]) -> dict[str, ArrowType]:
        """The columns in which labels of such samples have values; normalised rewards where the model has them."""
        names = {name for kind in kinds for name in _OF_KINDS[kind]}
        return {name: kind for name, kind in cls.COLUMNS.items() if name in names}

    @property
    def p_a(self) -> float | None:
        """Probability that A is better (Bradley and Terry); None for a row that is no pair."""
        return probability(self.rewards[0] - self.rewards[1]) if self.kind == "pair" else None

    @property
    def verdict(self) -> Verdict | None:
        """The response of the higher reward; None for a row that is no pair."""
        if self.kind != "pair":
            return None
        a, b = self.rewards
        return "tie" if a == b else "a" if a > b else "b"

    @property
    def ranking(self) -> list[int] | None:
        """Indices of several responses from 0, the highest reward first; of equal ones, the first."""
        if self.kind != "set":
            return None
        return sorted(range(len(self.rewards)), key=lambda index: -self.rewards[index])

    def values(self) -> dict[str, Any]:
        found: dict[str, Any] = dict.fromkeys(self.COLUMNS)
        found |= {"p_a": self.p_a, "verdict": self.verdict, "ranking": self.ranking}
        for name, numbers in (("reward", self.rewards), ("normalized_reward", self.normalized)):
            if self.kind == "set":
                found[f"{name}s"] = list(numbers) if numbers else None
            else:
                ends = ("",) if self.kind == "response" else ("_a", "_b")
                found |= {f"{name}{end}": number for end, number in zip(ends, numbers, strict=False)}
        return found
