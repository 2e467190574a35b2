"""One batch of prompts and labels: planned on the host, launched on the device, collected when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from preftree.engine.device import Target
from preftree.engine.model.model import Model
from preftree.engine.model.prefix_cache import PrefixCache
from preftree.engine.planning.lookups import Labels, LookUps
from preftree.engine.planning.plan import Plan, build_plan
from preftree.engine.planning.trie import TokenIds, TokenTrie
from preftree.engine.profiling import span
from preftree.engine.results import LabelTokens


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
                self._cache = PrefixCache(model.prefix_kv(_on_device(self._plan, model.device)))
            self._plan = None
        return self._cache


@dataclass(frozen=True)
class PreparedBatch:
    """Everything that the device will read, in host memory.

    place: [lookups] int64, which of the plan's final rows each lookup reads; rows, tokens: the same as tensors.
    with_tokens: whether the most probable tokens are wanted, too.
    """

    look_ups: LookUps
    plan: Plan
    place: np.ndarray
    rows: torch.Tensor
    tokens: torch.Tensor
    prefix: PreparedPrefix | None
    with_tokens: bool

    @classmethod
    def of(
        cls,
        prompts: Sequence[TokenIds],
        labels: Sequence[Labels],
        prefix: PreparedPrefix | None,
        skipped: int,
        target: Target,
        rope_variant: int = 0,
        with_tokens: bool = False,
    ) -> PreparedBatch:
        """One trie of prompts of one `rope_variant`.

        skipped: leading tokens of every prompt whose K/V the prefix holds.
        """
        look_ups = LookUps.build(prompts, labels)
        trie = TokenTrie.build(look_ups.sequences, skipped)
        # The plan's final rows are the distinct ones in ascending order.
        place = np.searchsorted(np.unique(trie.final_row), trie.final_row)[look_ups.sequence]
        rows, tokens = (_pinned(torch.from_numpy(array), target) for array in (place, look_ups.token))
        plan = _on_host(build_plan(trie, target.layout, rope_variant), target)
        return cls(look_ups, plan, place, rows, tokens, prefix if skipped else None, with_tokens)

    def launch(self, model: Model) -> LaunchedBatch:
        """Start the forward pass; on a GPU this returns long before it is done."""
        device = model.device
        cache = self.prefix.cache(model) if self.prefix else None
        with span("batch", device):
            hidden = model.final_hidden(_on_device(self.plan, device), cache)
            rows, tokens = (tensor.to(device, non_blocking=True) for tensor in (self.rows, self.tokens))
            logits, normaliser = model.label_logits(hidden, rows, tokens)
            # Into pinned memory, after the forward pass on the same stream.
            logits, normaliser = (tensor.to("cpu", non_blocking=True) for tensor in (logits, normaliser))
            top = model.most_probable(hidden).to("cpu", non_blocking=True) if self.with_tokens else None
        done = None
        if device.type == "cuda":
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(device))
        return LaunchedBatch(self, logits, normaliser, top, done)


@dataclass(frozen=True)
class LaunchedBatch:
    """logits: [lookups] float32. normaliser: [final rows] float32. top: [final rows] int64 the most probable tokens,
    None where nobody asked. All are there once `done` is.
    """

    batch: PreparedBatch
    logits: torch.Tensor
    normaliser: torch.Tensor
    top: torch.Tensor | None
    done: torch.cuda.Event | None

    def collect(self) -> tuple[np.ndarray, np.ndarray]:
        """Wait for it: log-probability and logit of every label, [prompts, labels] float64, nan where there is none."""
        if self.done is not None:
            self.done.synchronize()
        return self.batch.look_ups.by_label(self._logit, self._normaliser)

    def tokens(self) -> list[tuple[LabelTokens, ...]]:
        """Every label of every prompt token by token, once it is collected; nothing where nobody asked."""
        if self.top is None:
            return []
        logprob = (self._logit - self._normaliser).astype(np.float32)
        found = self.batch.look_ups.by_token(logprob, self.top.numpy()[self.batch.place])
        return [tuple(LabelTokens(*parts) for parts in labels) for labels in found]

    @property
    def _logit(self) -> np.ndarray:
        return self.logits.double().numpy()

    @property
    def _normaliser(self) -> np.ndarray:
        """Of each lookup's row."""
        return self.normaliser.double().numpy()[self.batch.place]


def _pinned(tensor: torch.Tensor, target: Target) -> torch.Tensor:
    """In memory that a GPU copies from while the host goes on."""
    return tensor.pin_memory() if target.device.type == "cuda" else tensor


def _on_host(plan: Plan, target: Target) -> Plan:
    return plan.moved(lambda tensor: _pinned(tensor, target))


def _on_device(plan: Plan, device: torch.device) -> Plan:
    return plan.moved(lambda tensor: tensor.to(device, non_blocking=True))
