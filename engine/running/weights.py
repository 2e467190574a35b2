"""A model's weights in the form that the forward pass multiplies with, one layer at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import torch

from engine.loading.config import ModelConfig
from engine.loading.weights import TensorSource


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer. Linear layers are packed by the kernels' `pack_linear`; their type is the kernels' own.

    q: [heads * size, hidden]. kv: [2 * kv_heads * size, hidden], keys first. o: [hidden, heads * size].
    gate_up: [2 * intermediate, hidden], gate first. down: [hidden, intermediate].
    q_norm, k_norm: [size], the norms of a query and of a key head, in models that have them.
    """

    attention_norm: torch.Tensor
    q: Any
    kv: Any
    o: Any
    mlp_norm: torch.Tensor
    gate_up: Any
    down: Any
    q_norm: torch.Tensor | None = None
    k_norm: torch.Tensor | None = None


class WeightProvider(Protocol):
    """Where the forward pass gets its weights. Layers come in order, so that a provider may stream them."""

    embedding: torch.Tensor
    final_norm: torch.Tensor
    head: Any

    def layers(self) -> Iterator[LayerWeights]:
        """The layers from first to last."""
        ...


class ResidentWeights:
    """All weights in memory, packed once."""

    def __init__(
        self, source: TensorSource, config: ModelConfig, device: torch.device, dtype: torch.dtype, ops: ModuleType
    ) -> None:
        """Read every tensor of `source` onto `device`. ModelError for what is missing, misshapen or not finite.

        Tensors go there one by one as they are stored and become `dtype` there, so at its highest the device holds
        the weights, and one tensor more.
        """
        reader = _Reader(source, config, device, dtype, ops)
        self.embedding = reader.embedding()
        self.final_norm = reader.read("model.norm.weight", config.hidden_size)
        self.head = ops.pack_head(
            self.embedding
            if config.tie_embeddings
            else reader.read("lm_head.weight", config.vocab_size, config.hidden_size)
        )
        self._layers = [reader.layer(index) for index in range(config.num_layers)]

    def layers(self) -> Iterator[LayerWeights]:
        return iter(self._layers)


@dataclass(frozen=True)
class _Reader:
    source: TensorSource
    config: ModelConfig
    device: torch.device
    dtype: torch.dtype
    ops: ModuleType

    def read(self, name: str, *shape: int) -> torch.Tensor:
        return self.source.tensor(name, shape, self.device).to(self.dtype)

    def embedding(self) -> torch.Tensor:
        return self.read("model.embed_tokens.weight", self.config.vocab_size, self.config.hidden_size)

    def fused(self, columns: int, names_and_rows: Sequence[tuple[str, int]]) -> torch.Tensor:
        """Matrices of `columns`, one below the other. Each is let go of before the next is read."""
        rows = sum(count for _, count in names_and_rows)
        fused = torch.empty(rows, columns, dtype=self.dtype, device=self.device)
        first = 0
        for name, count in names_and_rows:
            fused[first : first + count] = self.source.tensor(name, (count, columns), self.device)
            first += count
        return fused

    def layer(self, index: int) -> LayerWeights:
        prefix, config = f"model.layers.{index}", self.config
        hidden, inner = config.hidden_size, config.intermediate_size

        def vector(name: str, size: int) -> torch.Tensor:
            return self.read(f"{prefix}.{name}.weight", size)

        def linear(*parts: tuple[str, int], columns: int = hidden) -> Any:
            named = [(f"{prefix}.{name}.weight", rows) for name, rows in parts]
            matrix = self.fused(columns, named) if len(named) > 1 else self.read(*named[0], columns)
            return self.ops.pack_linear(matrix)

        return LayerWeights(
            attention_norm=vector("input_layernorm", hidden),
            q=linear(("self_attn.q_proj", config.q_size)),
            kv=linear(("self_attn.k_proj", config.kv_size), ("self_attn.v_proj", config.kv_size)),
            o=linear(("self_attn.o_proj", hidden), columns=config.q_size),
            mlp_norm=vector("post_attention_layernorm", hidden),
            gate_up=linear(("mlp.gate_proj", inner), ("mlp.up_proj", inner)),
            down=linear(("mlp.down_proj", hidden), columns=inner),
            q_norm=vector("self_attn.q_norm", config.head_dim) if config.qk_norm else None,
            k_norm=vector("self_attn.k_norm", config.head_dim) if config.qk_norm else None,
        )
