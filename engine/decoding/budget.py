"""How much K/V decoding may keep, and the store of that size."""

from __future__ import annotations

import os
from dataclasses import dataclass

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.device import Target
from preftree.engine.errors import InputError
from preftree.engine.fitting import Placement, usable_bytes
from preftree.engine.model.kv import KvStore, kv_of_layers
from preftree.engine.planning.estimate import MemoryModel

# On a CPU; memory that was never written to is never taken.
_CPU_BYTES = 4 * 1024**3
_CPU_SHARE = 0.25
# Of a GPU's free memory; the rest is for forward passes over prompts.
_GPU_SHARE = 0.7


@dataclass(frozen=True)
class KvBudget:
    """slots: tokens whose K/V of all layers fits. prefill_rows: rows of a pass over prompts that fits beside it."""

    slots: int
    prefill_rows: int
    slot_bytes: int

    @classmethod
    def choose(cls, config: ModelConfig, target: Target, kv_memory: int | None) -> KvBudget:
        """kv_memory: bytes; None is what the device has to spare. Raises InputError where that is out of range."""
        slot_bytes = target.memory.cache_bytes(config, 1)
        if kv_memory is not None and kv_memory < slot_bytes:
            raise InputError(f"kv_memory is {kv_memory:,} bytes; a single token of this model needs {slot_bytes:,}")
        if target.device.type != "cuda":
            most = min(_CPU_BYTES, int(_host_bytes() * _CPU_SHARE))
            return cls(_slots(kv_memory or most, slot_bytes), target.batch_tokens, slot_bytes)
        stages = [cls._of_stage(config, target, stage, kv_memory) for stage in target.stages]
        return cls(min(one.slots for one in stages), min(one.prefill_rows for one in stages), slot_bytes)

    @classmethod
    def _of_stage(cls, config: ModelConfig, target: Target, stage: Placement, kv_memory: int | None) -> KvBudget:
        """Of one GPU, with the K/V of its layers. kv_memory: for all layers."""
        memory = target.memory
        slot_bytes, own_bytes = (memory.cache_bytes(config, 1, layers) for layers in (None, stage.layers))
        weights = memory.weight_bytes(config, stage.layers)
        usable = usable_bytes(stage.device, target.memory_fraction, taken=weights)
        budget = int(usable * _GPU_SHARE) if kv_memory is None else kv_memory * own_bytes // slot_bytes
        rows = _prefill_rows(config, memory, target.batch_tokens, usable - budget)
        return cls(_slots(budget, own_bytes), rows, own_bytes)

    def open_store(self, config: ModelConfig, target: Target) -> KvStore:
        """Raises InputError where the device does not have that much."""
        try:
            kv = kv_of_layers(config, self.slots + 1, target.dtype, target.stages)
        except (RuntimeError, MemoryError):
            size = (self.slots + 1) * self.slot_bytes
            raise InputError(
                f"device '{target.device}' has no {size / 1e9:.1f} GB to keep K/V in; set a smaller kv_memory"
            ) from None
        for own in kv:
            own[-1] = 0  # the scratch slot: what rows without a sequence look at is at least a number
        return KvStore(kv)


def _slots(budget: int, slot_bytes: int) -> int:
    return max(1, budget // slot_bytes - 1)  # one is the scratch slot


def _host_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _prefill_rows(config: ModelConfig, memory: MemoryModel, most: int, room: int) -> int:
    """`most`, halved until a pass of so many rows fits into `room` bytes; a row block at least."""
    rows = most
    while rows > memory.row_block and memory.batch_bytes(config, rows, rows // 64, config.max_context) > room:
        rows //= 2
    return rows
