"""Weights of stages that are on devices of their own, as those of one model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain

from preftree.engine.weights.layers import LayerWeights, WeightProvider


class StagedWeights:
    """The weights of all stages, in order; all of them are resident."""

    def __init__(self, stages: Sequence[WeightProvider]) -> None:
        """stages: the first has the embedding, the last final norm and head."""
        self._stages = stages
        self.embedding = stages[0].embedding
        self.final_norm, self.head = stages[-1].final_norm, stages[-1].head

    @contextmanager
    def layers(self) -> Iterator[Iterator[LayerWeights]]:
        with ExitStack() as stack:
            yield chain.from_iterable([stack.enter_context(stage.layers()) for stage in self._stages])

    def done(self, index: int) -> None:
        """The layer stays."""
