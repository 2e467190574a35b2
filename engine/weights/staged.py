"""Weights of stages that are on devices of their own, as those of one model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from preftree.engine.weights.layers import LayerWeights, WeightProvider


class StagedWeights:
    """The weights of all stages, in order."""

    def __init__(self, stages: Sequence[WeightProvider]) -> None:
        """stages: the first has the embedding, the last final norm and head."""
        self._stages = stages
        self.embedding = stages[0].embedding
        self.final_norm, self.head = stages[-1].final_norm, stages[-1].head

    def layers(self) -> Iterator[LayerWeights]:
        return chain.from_iterable(stage.layers() for stage in self._stages)
