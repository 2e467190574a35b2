"""K/V of the tokens that all prompts of a run begin with: computed once, copied to the head of every batch's K/V."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PrefixCache:
    """kv: of every layer [cached tokens, 2, kv_heads, size], as it wrote them.

    Attention is causal, so the K/V of the first n cached tokens serve any prompts that share those n.
    """

    kv: Sequence[torch.Tensor]

    def layer(self, index: int, length: int) -> torch.Tensor:
        """K/V of the first `length` tokens in one layer: [length, 2, kv_heads, size]."""
        return self.kv[index][:length]
