"""Completions of one prompt that are compared with each other: win rates as rewards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from preftree.labeling.integrations.unscored import Unscored
from preftree.labeling.methods.group import GroupLabel
from preftree.labeling.serving.rewards import Reward
from preftree.labeling.types import Rejected, Response, ResponseSet


class PromptGroup:
    """The completions of one prompt, to be compared.

    Attributes:
        texts: those that differ; identical completions share a comparison.
        label: of the texts, once there is one.
    """

    def __init__(self, items: Sequence[Response | Rejected]) -> None:
        self._items = items
        self._counts = Counter(item.response for item in self._items if isinstance(item, Response))
        self.texts = list(self._counts)
        self.label: GroupLabel | Unscored | None = None

    @property
    def sample(self) -> ResponseSet:
        """Each text once."""
        first = next(item for item in self._items if isinstance(item, Response))
        return ResponseSet(first.id, first.prompt, tuple(self.texts))

    def rewards(self) -> list[Reward | Unscored]:
        """Of the completions, in order."""
        by_text = {text: self._reward(place) for place, text in enumerate(self.texts)}
        return [by_text[item.response] if isinstance(item, Response) else Unscored(item.reason) for item in self._items]

    def _reward(self, place: int) -> Reward | Unscored:
        counts = list(self._counts.values())
        if sum(counts) < 2:
            return Unscored("no other completion of its prompt is there to be compared with")
        if self.label is None:  # all are the same text
            return Reward(0.5, {}, 0)
        if isinstance(self.label, Unscored):
            return self.label
        met = [(p, count) for p, count in zip(self.label.win_matrix[place], counts, strict=True) if p is not None]
        alike = counts[place] - 1
        won = sum(p * count for p, count in met) + 0.5 * alike
        logs = {"label_mass": self.label.label_mass, "position_gap": self.label.position_gap}
        return Reward(won / (sum(count for _, count in met) + alike), logs, 0)


def groups_of(prompts: Sequence[Any], items: Sequence[Response | Rejected]) -> list[PromptGroup]:
    """The completions in runs of the same prompt; prompts and items go together."""
    runs = groupby(zip(prompts, items, strict=True), key=lambda entry: entry[0])
    return [PromptGroup([item for _, item in run]) for _, run in runs]
