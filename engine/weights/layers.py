"""A model's weights in the form that the forward pass multiplies with, one layer at a time."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.config.rope import rotary_order
from preftree.engine.errors import InputError
from preftree.engine.memory import give_back_freed
from preftree.engine.weights.names import (
    EMBEDDING,
    FINAL_NORM,
    HEAD,
    PER_LAYER_EMBEDDING,
    PER_LAYER_NORM,
    SCALAR_HEAD,
    Matrix,
    MlpTensors,
    PerLayerTensors,
    layer_tensors,
)
from preftree.engine.weights.safetensors import TensorSource


@dataclass(frozen=True)
class MlpWeights:
    """gate_up: [2 * width, hidden], gate first, packed by the kernels' `pack_gated`. down: [hidden, width]."""

    gate_up: Any
    down: Any


@dataclass(frozen=True)
class ExpertsWeights:
    """A mixture of experts. router: [experts, hidden], packed."""

    router: Any
    mlps: tuple[MlpWeights, ...]


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
    another. o: [hidden, heads * size].
    mlp, experts: one of them.
    *_norm: what a RMSNorm multiplies with, None where the family has no such norm; before and after attention, before
    and after the MLP: [hidden]. q_norm, k_norm: [size] for each head, or the width of the projection. v_norm: [size].
    heads: which of the model's heads are its. scalar: what its result is multiplied with, [1]; None: nothing.
    per_layer: None where tokens have no embedding for each layer.
    window: how many last tokens the layer looks at, None: all. rope: which of the model's rotary embeddings is its.
    """

    q: Any
    kv: Any
    o: Any
    mlp: MlpWeights | None
    experts: ExpertsWeights | None = None
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


class WeightProvider(Protocol):
    """Where the forward pass gets its weights. Layers come in order, so that a provider may stream them.

    head: the output matrix, packed by the kernels' `pack_head`; of a reward model [1, hidden].
    """

    embedding: torch.Tensor
    final_norm: torch.Tensor
    head: Any

    def layers(self) -> Iterator[LayerWeights]:
        """The layers from first to last."""
        ...


class ResidentWeights:
    """All weights in memory, packed once."""

    def __init__(
        self,
        source: TensorSource,
        config: ModelConfig,
        device: torch.device,
        dtype: torch.dtype,
        ops: ModuleType,
        wide_norms: bool = False,
        quantized: bool = False,
    ) -> None:
        """Read every tensor of `source` onto `device`. ModelError for what is missing, misshapen or not finite.
        InputError for what does not fit into `dtype`.

        Tensors go there one by one as they are stored and become `dtype` there, so at its highest the device holds
        the weights, and one tensor more. wide_norms: what norms multiply with stays float32. quantized: linear layers
        are packed in 8 bits.
        """
        reader = _Reader(source, config, device, dtype, ops, wide_norms, quantized)
        self.embedding = reader.read(EMBEDDING, config.vocab_size, config.hidden_size)
        # Logits are linear in what the last norm gives; no operation after it has to know.
        self.final_norm = reader.norm(FINAL_NORM, config.hidden_size) / config.logits_scaling
        self.head = self._head(reader, config, ops)
        self._layers = []
        for index in range(config.num_layers):
            self._layers.append(reader.layer(index))
            give_back_freed()

    def _head(self, reader: _Reader, config: ModelConfig, ops: ModuleType) -> Any:
        if config.is_reward_model:
            return reader.read(SCALAR_HEAD, 1, config.hidden_size)
        if config.tie_embeddings:
            return ops.pack_head(self.embedding)
        return ops.pack_head(reader.read(HEAD, config.vocab_size, config.hidden_size))

    def layers(self) -> Iterator[LayerWeights]:
        return iter(self._layers)


class _Reader:
    def __init__(
        self,
        source: TensorSource,
        config: ModelConfig,
        device: torch.device,
        dtype: torch.dtype,
        ops: ModuleType,
        wide_norms: bool,
        quantized: bool,
    ) -> None:
        self.source, self.config, self.device, self.dtype, self.ops = source, config, device, dtype, ops
        self._packing = {"quantized": True} if quantized else {}
        self._norm_dtype = torch.float32 if wide_norms or config.family.wide_norms else dtype
        order = rotary_order(config.rope, config.head_dim)
        self._order = None if order is None else torch.from_numpy(order).to(device)

    def read(self, name: str, *shape: int) -> torch.Tensor:
        stored = self.source.tensor(name, shape, self.device)
        return _in_range(stored.to(self.dtype), name, stored.dtype)

    def norm(self, name: str, size: int) -> torch.Tensor:
        """float32 where the family multiplies before it rounds: 1 + weight has more digits than 16 bits hold."""
        family = self.config.family
        stored = self.source.tensor(name, (size,), self.device)
        if not family.centred_norms:
            return _in_range(stored.to(self._norm_dtype), name, stored.dtype)
        # The sum is rounded once, whichever of the two is stored.
        weight = stored.to(torch.promote_types(stored.dtype, self._norm_dtype)) + 1
        return _in_range(weight.to(self._norm_dtype), name, stored.dtype)

    def layer(self, index: int) -> LayerWeights:
        tensors, config = layer_tensors(self.config, index), self.config
        norms = {f"{role}_norm": self.norm(f"{name}.weight", size) for role, (name, size) in tensors.norms.items()}
        heads = config.heads[config.heads_of(index)]
        if config.family.value_norm:
            norms["v_norm"] = torch.ones(heads.size, dtype=self._norm_dtype, device=self.device)
        experts = None
        if tensors.router is not None:
            experts = ExpertsWeights(self._packed(tensors.router), tuple(map(self._mlp, tensors.experts)))
        return LayerWeights(
            q=self._packed(tensors.q, rotating=config.num_heads),
            kv=None if tensors.kv is None else self._packed(tensors.kv, rotating=heads.kv_count),
            o=self._packed(tensors.o),
            mlp=None if tensors.mlp is None else self._mlp(tensors.mlp),
            experts=experts,
            window=config.window_of(index),
            rope=config.rope_of(index),
            heads=config.heads_of(index),
            scalar=None if tensors.scalar is None else self.read(tensors.scalar, 1),
            per_layer=None if tensors.per_layer is None else self._per_layer(tensors.per_layer, index),
            **norms,
        )

    @functools.cached_property
    def _per_layer_table(self) -> torch.Tensor:
        """[vocab, layers, size]."""
        inputs, layers = self.config.per_layer_inputs, self.config.num_layers
        assert inputs is not None
        return self.read(PER_LAYER_EMBEDDING, inputs.vocab_size, layers * inputs.size).unflatten(1, (layers, -1))

    def _per_layer(self, tensors: PerLayerTensors, index: int) -> PerLayerWeights:
        table = self._per_layer_table[:, index]
        return PerLayerWeights(
            table=table,
            projection=self._packed(tensors.projection),
            projection_norm=self.norm(PER_LAYER_NORM, table.shape[1]),
            gate=self._packed(tensors.gate),
            out=self._packed(tensors.out),
            norm=self.norm(f"{tensors.norm}.weight", self.config.hidden_size),
        )

    def _mlp(self, tensors: MlpTensors) -> MlpWeights:
        gate_up = self.ops.pack_gated(*self._weight_and_bias(tensors.gate_up), **self._packing)
        return MlpWeights(gate_up, self._packed(tensors.down))

    def _packed(self, matrix: Matrix, rotating: int = 0) -> Any:
        return self.ops.pack_linear(*self._weight_and_bias(matrix, rotating), **self._packing)

    def _weight_and_bias(self, matrix: Matrix, rotating: int = 0) -> tuple[torch.Tensor, torch.Tensor | None]:
        """rotating: leading heads whose dimensions come in the order of `rotary_order`."""
        weight = self._fused(matrix, "weight", matrix.columns)
        bias = self._fused(matrix, "bias") if matrix.has_bias else None
        if self._order is not None and rotating:
            for tensor in (weight, bias):
                if tensor is not None:
                    heads = tensor[: rotating * self.config.head_dim].unflatten(0, (rotating, -1))
                    heads.copy_(heads[:, self._order])
        return weight, bias

    def _fused(self, matrix: Matrix, kind: str, *columns: int) -> torch.Tensor:
        """Weight or bias, parts one below the other. Each is let go of before the next is read."""
        parts = matrix.parts
        if len(parts) == 1 and parts[0].rows == parts[0].stored_rows:
            return self.read(f"{parts[0].name}.{kind}", parts[0].rows, *columns)
        rows = sum(part.rows for part in parts)
        fused = torch.empty(rows, *columns, dtype=self.dtype, device=self.device)
        first = 0
        for part in parts:
            name = f"{part.name}.{kind}"
            stored = self.source.tensor(name, (part.stored_rows, *columns), self.device)
            fused[first : first + part.rows] = stored[part.first : part.first + part.rows]
            _in_range(fused[first : first + part.rows], name, stored.dtype)
            first += part.rows
            del stored
        return fused


def _in_range(tensor: torch.Tensor, name: str, stored: torch.dtype) -> torch.Tensor:
    """`tensor` itself. InputError when it holds what became infinity on the way from the type it is stored in."""
    if torch.finfo(stored).max > torch.finfo(tensor.dtype).max:
        low, high = torch.aminmax(tensor)
        if not (torch.isfinite(low) and torch.isfinite(high)):
            dtype, most = str(tensor.dtype).removeprefix("torch."), torch.finfo(tensor.dtype).max
            other = "bfloat16 or float32" if tensor.dtype == torch.float16 else "float32"
            raise InputError(f"tensor {name} holds values beyond {dtype}'s range ({most:,.6g}); use dtype {other}")
    return tensor
