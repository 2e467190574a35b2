"""Weights of which a few layers are in memory at a time; the next one is copied there while others are computed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch

from preftree.engine.memory import give_back_freed
from preftree.engine.weights.ends import Ends
from preftree.engine.weights.layers import LayerWeights
from preftree.engine.weights.matrices import put_together, taken_apart
from preftree.engine.weights.reader import Reader


class LayerStore(Protocol):
    """Where there is room for the matrices of all layers, and slots in which the forward pass can read some."""

    @property
    def slots(self) -> int:
        """Layers that the forward pass may read at a time, the next one included."""

    def add(self, matrices: Sequence[torch.Tensor]) -> None:
        """Keep the next layer's; nothing refers to these afterwards."""

    def open(self) -> None:
        """Make the slots: all layers are there."""

    def begin(self, layer: int, slot: int) -> None:
        """Begin to copy a layer into a slot that nobody reads."""

    def matrices(self, layer: int, slot: int) -> list[torch.Tensor]:
        """Those of a layer, in the slot that it was last copied into; whatever is computed next sees them whole."""

    def free(self, slot: int) -> None:
        """Nothing that is computed from now on reads the slot."""


class _Copied(NamedTuple):
    layer: int
    slot: int


class StreamedWeights(Ends):
    """The layers of a `LayerStore`, in turns; embedding, last norm and head stay in memory.

    One pass at a time: another one that begins waits. The first layers of the next pass are copied while one ends.
    """

    def __init__(self, reader: Reader, store: LayerStore) -> None:
        """Read every tensor of a whole model, as `ResidentWeights` does, and pack each layer once."""
        super().__init__(reader)
        self._store = store
        self._frames = []
        for index in reader.layers:
            frame, matrices = taken_apart(reader.layer(index))
            store.add(matrices)
            del matrices
            self._frames.append(frame)
            give_back_freed()
        store.open()
        self._pass = threading.Lock()
        self._free = deque(range(min(store.slots, len(self._frames))))
        self._copied: deque[_Copied] = deque()
        self._used: dict[int, int] = {}
        self._next_layer = 0

    @contextmanager
    def layers(self) -> Iterator[Iterator[LayerWeights]]:
        with self._pass:
            try:
                self._rewind()
                yield map(self._taken, range(len(self._frames)))
            finally:
                for index in list(self._used):
                    self.done(index)

    def done(self, index: int) -> None:
        """Layer `index` of this pass is not read any more: the next may take its place."""
        slot = self._used.pop(index)
        self._store.free(slot)
        self._free.append(slot)
        self._copy_ahead()

    def _taken(self, index: int) -> LayerWeights:
        assert self._copied, f"layer {index} is asked for while {sorted(self._used)} are still read"
        layer, slot = self._copied.popleft()
        assert layer == index
        self._used[index] = slot
        return put_together(self._frames[index], self._store.matrices(index, slot))

    def _rewind(self) -> None:
        """Begin with layer 0, also where the last pass was given up in the middle."""
        if self._copied and self._copied[0].layer:
            self._free.extend(slot for _, slot in self._copied)
            self._copied.clear()
            self._next_layer = 0
        self._copy_ahead()

    def _copy_ahead(self) -> None:
        while self._free:
            slot = self._free.popleft()
            self._store.begin(self._next_layer, slot)
            self._copied.append(_Copied(self._next_layer, slot))
            self._next_layer = (self._next_layer + 1) % len(self._frames)
