"""Weights that stay in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

from preftree.engine.memory import give_back_freed
from preftree.engine.weights.ends import Ends
from preftree.engine.weights.layers import LayerWeights
from preftree.engine.weights.reader import Reader


class ResidentWeights(Ends):
    """Weights in memory, packed once: of the layers that a reader reads."""

    def __init__(self, reader: Reader) -> None:
        """Read every tensor. Errors as of `Reader`.

        Tensors go to the device one by one, so at its highest it holds the weights, and one tensor more.
        """
        super().__init__(reader)
        self._layers = []
        for index in reader.layers:
            self._layers.append(reader.layer(index))
            give_back_freed()

    def layers(self) -> AbstractContextManager[Iterator[LayerWeights]]:
        return nullcontext(iter(self._layers))

    def done(self, index: int) -> None:
        """The layer stays."""
