"""K/V of every layer for the rows that decoding attends to: slots, who needs them, and which are free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


class KvStore:
    """A fixed number of slots, taken and given back one by one: a path may lie scattered.

    kv: [layers, slots + 1, 2, kv_heads, size]; the last slot is a scratch one, for rows that fill a block.
    """

    def __init__(self, kv: torch.Tensor) -> None:
        self.kv = kv
        self.num_slots = kv.shape[1] - 1
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
        return self.store.kv[index].index_select(0, self.slots[:length])


@dataclass(frozen=True)
class Destination:
    """Where a batch's K/V is to stay. slots: [rows] int64, of each row of the batch."""

    store: KvStore
    slots: torch.Tensor

    def keep(self, index: int, rows: slice, kv: torch.Tensor) -> None:
        """kv: [rows, 2, kv_heads, size] of layer `index`, for some rows of the batch."""
        self.store.kv[index].index_copy_(0, self.slots[rows], kv)
