"""K/V of the layers: of those at work in a forward pass, and of all for the rows that decoding attends to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.fitting import Placement


def kv_of_layers(
    config: ModelConfig, slots: int, dtype: torch.dtype, stages: Sequence[Placement]
) -> tuple[torch.Tensor, ...]:
    """Room for K/V of every layer, [slots, 2, kv_heads, size]; a layer that uses another's has the same."""
    found: list[torch.Tensor] = []
    for device, layer in ((stage.device, layer) for stage in stages for layer in stage.layers):
        heads, source = config.heads[config.heads_of(layer)], config.kv_source(layer)
        shape = (slots, 2, heads.kv_count, heads.size)
        found.append(found[source] if source < layer else torch.empty(shape, dtype=dtype, device=device))
    return tuple(found)


class KvBuffers:
    """Memory that layers use in turns, in the shape that each has K/V in.

    views: [slots, 2, kv_heads, size] each, of every buffer in every shape.
    """

    def __init__(self, config: ModelConfig, turns: int, slots: int, dtype: torch.dtype, device: torch.device) -> None:
        """turns: buffers that layers use one after the other; those whose K/V later layers use have one each."""
        self._config, self._turns, self._shapes = config, turns, len(config.heads)
        self._kept = {source: turns + place for place, source in enumerate(config.kv_sources)}
        widest = max(2 * heads.kv_size for heads in config.heads)
        memory = torch.empty(turns + len(self._kept), slots * widest, dtype=dtype, device=device)
        self.views = [
            buffer[: slots * 2 * heads.kv_size].view(slots, 2, heads.kv_count, heads.size)
            for buffer in memory
            for heads in config.heads
        ]

    def place(self, layer: int) -> int:
        """Which of `views` a layer reads, and writes unless it uses another's."""
        source = self._config.kv_source(layer)
        buffer = self._kept.get(source, source % self._turns)
        return buffer * self._shapes + self._config.heads_of(layer)


class KvStore:
    """A fixed number of slots, taken and given back one by one: a path may lie scattered.

    kv: of every layer [slots + 1, 2, kv_heads, size]; the last slot is a scratch one, for rows that fill a block.
    """

    def __init__(self, kv: Sequence[torch.Tensor]) -> None:
        self.kv = kv
        self.num_slots = len(kv[0]) - 1
        self._holders = np.zeros(self.num_slots, dtype=np.int32)
        # Taken from the end: the lowest first, so that memory that was never needed is never touched.
        self._free = np.arange(self.num_slots)[::-1].copy()
        self._num_free = self.num_slots

    @property
    def scratch(self) -> int:
        return self.num_slots

    @property
    def num_free(self) -> int:
        return self._num_free

    def take(self, count: int) -> np.ndarray:
        """Slots that nobody holds, [count] int64. Each is to be held before anything is dropped."""
        assert count <= self._num_free
        self._num_free -= count
        return self._free[self._num_free : self._num_free + count][::-1].copy()

    def give_back(self, slots: np.ndarray) -> None:
        """Of slots that were taken and never held."""
        self.hold(slots)
        self.drop(slots)

    def hold(self, slots: np.ndarray) -> None:
        """One more holder of each of `slots`, which are all different."""
        self._holders[slots] += 1

    def drop(self, slots: np.ndarray) -> None:
        """One holder less; slots without any are free again."""
        self._holders[slots] -= 1
        freed = slots[self._holders[slots] == 0]
        self._free[self._num_free : self._num_free + len(freed)] = freed[::-1]
        self._num_free += len(freed)


@dataclass(frozen=True)
class StoredPath:
    """Rows of a store as a cache that a batch's K/V begins with, see `PrefixCache`. slots: [tokens] int64."""

    store: KvStore
    slots: torch.Tensor

    def layer(self, index: int, length: int) -> torch.Tensor:
        """K/V of the first `length` tokens in one layer: [length, 2, kv_heads, size]."""
        kv = self.store.kv[index]
        return kv.index_select(0, self.slots[:length].to(kv.device))


@dataclass(frozen=True)
class Destination:
    """Where a batch's K/V is to stay. slots: [rows] int64, of each row of the batch."""

    store: KvStore
    slots: torch.Tensor

    def keep(self, index: int, rows: slice, kv: torch.Tensor) -> None:
        """kv: [rows, 2, kv_heads, size] of layer `index`, for some rows of the batch."""
        self.store.kv[index].index_copy_(0, self.slots[rows].to(kv.device), kv)
