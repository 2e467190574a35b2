"""A model's weights in the form that the forward pass multiplies with, one layer at a time."""

from __future__ import annotations

from collections.abc import Iterator
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
    """

    attention_norm: torch.Tensor
    q: Any
    kv: Any
    o: Any
    mlp_norm: torch.Tensor
    gate_up: Any
    down: Any


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
        """Read every tensor of `source` onto `device`. ModelError for what is missing, misshapen or not finite."""
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
        return self.source.tensor(name, shape).to(self.device, self.dtype)

    def embedding(self) -> torch.Tensor:
        return self.read("model.embed_tokens.weight", self.config.vocab_size, self.config.hidden_size)

    def layer(self, index: int) -> LayerWeights:
        prefix, config = f"model.layers.{index}", self.config
        hidden, inner = config.hidden_size, config.intermediate_size

        def linear(*names_and_rows: tuple[str, int], columns: int = hidden) -> Any:
            parts = [self.read(f"{prefix}.{name}.weight", rows, columns) for name, rows in names_and_rows]
            return self.ops.pack_linear(torch.cat(parts))

        return LayerWeights(
            attention_norm=self.read(f"{prefix}.input_layernorm.weight", hidden),
            q=linear(("self_attn.q_proj", config.q_size)),
            kv=linear(("self_attn.k_proj", config.kv_size), ("self_attn.v_proj", config.kv_size)),
            o=linear(("self_attn.o_proj", hidden), columns=config.q_size),
            mlp_norm=self.read(f"{prefix}.post_attention_layernorm.weight", hidden),
            gate_up=linear(("mlp.gate_proj", inner), ("mlp.up_proj", inner)),
            down=linear(("mlp.down_proj", hidden), columns=inner),
        )
