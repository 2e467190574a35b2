"""One batch of prompts: planned on the host, launched on the device, collected when it is done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from preftree.engine.device import Target
from preftree.engine.model.model import Model
from preftree.engine.model.prefix_cache import PrefixCache
from preftree.engine.planning.plan import Plan, build_plan
from preftree.engine.planning.trie import TokenIds, TokenTrie
from preftree.engine.profiling import span
from preftree.engine.scoring.readout import Found, Reading, pinned


class PreparedPrefix:
    """Tokens for the prefix cache, planned on the host. Batches that need them run them, the first of them once."""

    def __init__(self, tokens: TokenIds, target: Target) -> None:
        self._plan: Plan | None = _on_host(build_plan(TokenTrie.build([tokens]), target.layout), target)
        self._cache: PrefixCache | None = None

    def cache(self, model: Model) -> PrefixCache:
        """K/V of every layer; run when it is first asked for."""
        if self._cache is None:
            assert self._plan is not None
            with span("prefix", model.device):
                self._cache = PrefixCache(model.prefix_kv(self._plan))
            self._plan = None
        return self._cache


@dataclass(frozen=True)
class PreparedBatch:
    """Everything that the device will read, in host memory.

    place: [reads] int64, which of the plan's final rows each of them is of; rows: the same as a tensor.
    """

    reading: Reading
    plan: Plan
    place: np.ndarray
    rows: torch.Tensor
    prefix: PreparedPrefix | None

    @classmethod
    def of(
        cls,
        reading: Reading,
        prefix: PreparedPrefix | None,
        skipped: int,
        target: Target,
        rope_variant: int = 0,
    ) -> PreparedBatch:
        """One trie of prompts of one `rope_variant`.

        skipped: leading tokens of every prompt whose K/V the prefix holds.
        """
        trie = TokenTrie.build(reading.sequences, skipped)
        # The plan's final rows are the distinct ones in ascending order.
        place = np.searchsorted(np.unique(trie.final_row), trie.final_row)[reading.sequence]
        plan = _on_host(build_plan(trie, target.layout, rope_variant), target)
        return cls(reading, plan, place, pinned(torch.from_numpy(place), target), prefix if skipped else None)

    def launch(self, model: Model) -> LaunchedBatch:
        """Start the forward pass; on a GPU this returns long before it is done."""
        device = model.device
        cache = self.prefix.cache(model) if self.prefix else None
        with span("batch", device):
            hidden = model.final_hidden(self.plan, cache)
            found = self.reading.launch(model, hidden, self.rows.to(device, non_blocking=True))
            # Into pinned memory, after the forward pass on the same stream.
            found = tuple(tensor.to("cpu", non_blocking=True) for tensor in found)
        done = None
        if device.type == "cuda":
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(device))
        return LaunchedBatch(self, found, done)


@dataclass(frozen=True)
class LaunchedBatch:
    """found: what was read, there once `done` is."""

    batch: PreparedBatch
    found: Found
    done: torch.cuda.Event | None

    def collect(self) -> None:
        """Wait for it, and give the call its answers."""
        if self.done is not None:
            self.done.synchronize()
        self.batch.reading.collect(self.found, self.batch.place)


def _on_host(plan: Plan, target: Target) -> Plan:
    return plan.moved(lambda tensor: pinned(tensor, target))
