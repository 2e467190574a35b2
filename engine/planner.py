"""What an engine would run, said without loading weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from preftree.engine.checkpoint import Checkpoint
from preftree.engine.device import Target, choose_target
from preftree.engine.device_names import Devices
from preftree.engine.planning.batching import schedule
from preftree.engine.planning.estimate import JobPlan, WeightCost, estimate
from preftree.engine.planning.lookups import Labels
from preftree.engine.planning.prefix import PrefixPolicy
from preftree.engine.requests import (
    NO_LABELS,
    Prompts,
    check_reads_rewards,
    checked_prompts,
    continuation_tokens,
    rope_variants_of,
)


class Planner:
    """What an engine would run, call after call, from the configuration alone: no weight is read."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = "auto",
        batch_tokens: int | None = None,
        memory_fraction: float | None = None,
        stream_layers: str = "auto",
        prefix_cache: bool = True,
        devices: Devices | None = None,
        target: Target | None = None,
    ) -> None:
        """Options as in `Engine.load`. target: one that was chosen already, in place of those that choose one."""
        self._config, limits = checkpoint.config, (batch_tokens, memory_fraction, stream_layers, devices)
        self.target = target or choose_target(checkpoint.config, device, dtype, *limits)
        self._prefixes = PrefixPolicy() if prefix_cache else None

    @property
    def batch_tokens(self) -> int:
        """Unique tokens in one forward pass."""
        return self.target.batch_tokens

    @cached_property
    def _weights(self) -> WeightCost:
        return WeightCost.of(self._config, self.target.memory)

    def plan(self, prompts: Prompts, labels: Sequence[Labels] | None = None) -> JobPlan:
        """Prompt tokens, unique tokens, batches and memory of `Engine.score(prompts, labels)`. Raises InputError.

        labels: None for `Engine.reward(prompts)`.
        """
        if labels is None:
            check_reads_rewards(self._config)
            labels = [NO_LABELS] * len(prompts)
        ids = checked_prompts(prompts, labels, self._config)
        rope_variants = rope_variants_of(ids, labels, self._config)
        planned = schedule(ids, continuation_tokens(labels), self.batch_tokens, self._prefixes, rope_variants)
        if self._prefixes and planned.new_prefix is not None:
            self._prefixes.keep(planned.new_prefix)
        return estimate(self._config, self.target.memory, self._weights, ids, planned)
