"""A model's weights in the form that the forward pass multiplies with, one layer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True)
class MlpWeights:
    """gate_up: [2 * width, hidden], gate first, packed by the kernels' `pack_gated`. down: [hidden, width]."""

    gate_up: Any
    down: Any


@dataclass(frozen=True)
class ExpertsWeights:
    """A mixture of experts.

    router: [experts, hidden], packed, in the model's type even where linear layers are quantized: what is close decides
    about whole experts. Another row is the gate of the shared expert, where it has one.
    mlps: of all experts, packed by the kernels' `pack_experts`. correction: [experts] float32, of a sigmoid router,
    whose matrix is float32, too. shared: the expert that every row goes through.
    """

    router: Any
    mlps: Any
    correction: torch.Tensor | None = None
    shared: MlpWeights | None = None


@dataclass(frozen=True)
class PerLayerWeights:
    """What brings a token's embedding for one layer into it; sizes as in `PerLayerTensors`.

    table: [vocab, size], the embeddings. projection_norm: [size], after the projection; norm: [hidden], at the end.
    """

    table: torch.Tensor
    projection: Any
    projection_norm: torch.Tensor
    gate: Any
    out: Any
    norm: torch.Tensor


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer. Linear layers are packed by the kernels' `pack_linear`; their type is the kernels' own.

    q: [heads * size, hidden]. kv: [2 * kv_heads * size, hidden], keys first, None where the layer uses those of
    another. qkv: both as one matrix instead, packed by the kernels' `pack_qkv` where they have it; `queries` and
    `keys_values` are right for either. o: [hidden, heads * size].
    q_latent, kv_latent: of latent attention, what gives q and kv their input.
    mlp, experts: one of them.
    *_norm: what a norm multiplies with, None where the family has no such norm; before and after attention, before and
    after the MLP: [hidden]. q_norm, k_norm: [size] for each head, or the width of the projection. v_norm: [size].
    query_scale: what rotated queries are multiplied with, float32 [size]; None: nothing. heads: which of the model's
    heads are its. scalar: what its result is multiplied with, [1]; None: nothing.
    per_layer: None where tokens have no embedding for each layer.
    window: how many last tokens the layer looks at, None: all. rope: which of the model's rotary embeddings is its.
    sinks: float32 [heads], what joins the softmax of a row's scores besides, without a value; None: nothing.
    """

    q: Any
    kv: Any
    o: Any
    mlp: MlpWeights | None
    qkv: Any = None
    experts: ExpertsWeights | None = None
    q_latent: Any = None
    kv_latent: Any = None
    window: int | None = None
    rope: int = 0
    heads: int = 0
    scalar: torch.Tensor | None = None
    per_layer: PerLayerWeights | None = None
    attention_norm: torch.Tensor | None = None
    post_attention_norm: torch.Tensor | None = None
    mlp_norm: torch.Tensor | None = None
    post_mlp_norm: torch.Tensor | None = None
    q_norm: torch.Tensor | None = None
    k_norm: torch.Tensor | None = None
    v_norm: torch.Tensor | None = None
    q_latent_norm: torch.Tensor | None = None
    kv_latent_norm: torch.Tensor | None = None
    query_scale: torch.Tensor | None = None
    sinks: torch.Tensor | None = None

    @property
    def queries(self) -> Any:
        """What gives queries alone, packed."""
        return self.q if self.qkv is None else self.qkv.queries

    @property
    def keys_values(self) -> Any:
        """What gives keys and values alone, packed; None where the layer uses those of another."""
        return self.kv if self.qkv is None else self.qkv.keys_values

    @property
    def has_kv(self) -> bool:
        """Whether keys and values are the layer's own."""
        return self.kv is not None or self.qkv is not None


class WeightProvider(Protocol):
    """Where the forward pass gets its weights. Layers come in order, so that a provider may stream them.

    A layer may be read until `done` has been called with its number, after which its memory may become another's at any
    time. As long as two layers are not done, a third may be asked for, and no fourth.

    head: the output matrix, packed by the kernels' `pack_head`; of a reward model [1, hidden].
    """

    embedding: torch.Tensor
    final_norm: torch.Tensor
    head: Any

    def layers(self) -> AbstractContextManager[Iterator[LayerWeights]]:
        """The layers of one pass from first to last. The pass ends with the context, and so does its use of layers."""
        ...

    def done(self, index: int) -> None:
        """Whatever reads layer `index` in this pass has run; on a GPU, has been launched."""
        ...
