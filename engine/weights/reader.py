"""From stored tensors to the weights of a layer."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import torch

from preftree.engine.config.heads import Heads
from preftree.engine.config.latent import Latent
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.config.rope import rotary_order
from preftree.engine.weights.conversion import check_range
from preftree.engine.weights.fp8 import read_fp8
from preftree.engine.weights.latent import padded_keys_values, padded_queries, with_turning_last
from preftree.engine.weights.layers import ExpertsWeights, LayerWeights, MlpWeights, PerLayerWeights
from preftree.engine.weights.names import PER_LAYER_EMBEDDING, PER_LAYER_NORM, layer_tensors
from preftree.engine.weights.safetensors import TensorSource
from preftree.engine.weights.stacked import Stack
from preftree.engine.weights.tensors import ExpertsTensors, LayerTensors, Matrix, MlpTensors, PerLayerTensors
from preftree.kernels.quantized.fp8 import Fp8Rows
from preftree.kernels.quantized.types import Quantized


class Reader:
    """Tensors of a source as the weights of layers: parts joined, heads reordered, packed by the kernels.

    Raises ModelError for what is missing, misshapen or not finite, InputError for what does not fit into the dtype.
    """

    def __init__(
        self,
        source: TensorSource,
        config: ModelConfig,
        device: torch.device,
        dtype: torch.dtype,
        ops: ModuleType,
        wide_norms: bool = False,
        quantized: Quantized | None = None,
        layers: range | None = None,
    ) -> None:
        """device: where tensors go. dtype: which they have there.

        wide_norms: what norms multiply with stays float32. quantized: what linear layers are quantised to. layers: that
        will be read; None for all.
        """
        self.layers = range(config.num_layers) if layers is None else layers
        self.source, self.config, self.device, self.dtype, self.ops = source, config, device, dtype, ops
        self._packing: dict[str, Any] = {"quantized": quantized} if quantized else {}
        # In fp8 attention's output stays in 16 bits: nothing has its rows in registers.
        self._output_packing = {} if quantized == "fp8" else self._packing
        self._norm_dtype = torch.float32 if wide_norms or config.family.wide_norms else dtype
        order = None if config.latent is not None else rotary_order(config.rope, config.head_dim)
        self._order = None if order is None else torch.from_numpy(order).to(device)

    def read(self, name: str, *shape: int) -> torch.Tensor:
        return self.source.tensor(name, shape, self.device, self.dtype)

    def norm(self, name: str, size: int) -> torch.Tensor:
        """float32 where the family multiplies before it rounds: 1 + weight has more digits than 16 bits hold."""
        if not self.config.family.centred_norms:
            return self.source.tensor(name, (size,), self.device, self._norm_dtype)
        # The sum is rounded once, whichever of the two is stored.
        stored = self.source.tensor(name, (size,), self.device)
        weight = stored.to(torch.promote_types(stored.dtype, self._norm_dtype)) + 1
        return check_range(weight.to(self._norm_dtype), name, stored.dtype)

    def layer(self, index: int) -> LayerWeights:
        tensors, config = layer_tensors(self.config, index), self.config
        norms = {f"{role}_norm": self.norm(f"{name}.weight", size) for role, (name, size) in tensors.norms.items()}
        if config.family.qk_norm == "rotated head":
            norms |= _rotated_norms(norms["q_norm"], norms["k_norm"])
        if self._order is not None and config.family.qk_norm == "head":
            norms |= {role: norms[role][self._order] for role in ("q_norm", "k_norm") if role in norms}
        heads = config.heads[config.heads_of(index)]
        if config.family.value_norm:
            norms["v_norm"] = torch.ones(heads.size, dtype=self._norm_dtype, device=self.device)
        return LayerWeights(
            **(
                self._attention(tensors, heads)
                if config.latent is None
                else self._latent_attention(tensors, config.latent)
            ),
            o=self.ops.pack_linear(*self._weight_and_bias(tensors.o), **self._output_packing),
            mlp=None if tensors.mlp is None else self._mlp(tensors.mlp),
            experts=None if tensors.experts is None else self._experts(tensors.experts),
            window=config.window_of(index),
            rope=config.rope_of(index),
            sinks=None if tensors.sinks is None else self._sinks(*tensors.sinks),
            heads=config.heads_of(index),
            scalar=None if tensors.scalar is None else self.read(tensors.scalar, 1),
            per_layer=None if tensors.per_layer is None else self._per_layer(tensors.per_layer, index),
            **norms,
        )

    def _attention(self, tensors: LayerTensors, heads: Heads) -> dict[str, Any]:
        if self._is_one_product(tensors):
            assert tensors.kv is not None
            whole = replace(tensors.q, parts=tensors.q.parts + tensors.kv.parts)
            weight_and_bias = self._to_pack(whole, rotating=self.config.num_heads + heads.kv_count)
            return {"q": None, "kv": None, "qkv": self.ops.pack_qkv(*weight_and_bias, heads.q_size, **self._packing)}
        return {
            "q": self._packed(tensors.q, rotating=self.config.num_heads),
            "kv": None if tensors.kv is None else self._packed(tensors.kv, rotating=heads.kv_count),
        }

    def _is_one_product(self, tensors: LayerTensors) -> bool:
        """Where the kernels take it, and nothing comes between a head's projection and its own norm and rotation."""
        family = self.config.family
        has_own_pass = family.qk_norm == "width" or family.value_norm
        return hasattr(self.ops, "pack_qkv") and tensors.kv is not None and not has_own_pass

    def _latent_attention(self, tensors: LayerTensors, latent: Latent) -> dict[str, Any]:
        heads, interleaved = self.config.num_heads, self.config.rope.interleaved
        assert tensors.kv is not None
        assert tensors.kv_latent is not None
        (q, _), (kv, _) = self._weight_and_bias(tensors.q), self._weight_and_bias(tensors.kv)
        short = [
            None if one is None else with_turning_last(one, latent, interleaved)
            for one in self._weight_and_bias(tensors.kv_latent)
        ]
        pack = partial(self.ops.pack_linear, **self._packing)
        return {
            "q_latent": None if tensors.q_latent is None else self._packed(tensors.q_latent),
            "q": pack(padded_queries(q, latent, heads, interleaved)),
            "kv_latent": pack(*short),
            "kv": pack(padded_keys_values(kv, latent, heads, interleaved)),
        }

    def _experts(self, tensors: ExpertsTensors) -> ExpertsWeights:
        layers: list[Iterator[tuple[torch.Tensor | Fp8Rows, torch.Tensor | None]]]
        if tensors.stacked is not None:
            count, layers = tensors.stacked.gate_up.count, [self._each(stack) for stack in tensors.stacked.layers]
        else:
            matrices = zip(*((mlp.gate_up, mlp.down) for mlp in tensors.experts), strict=True)
            count, layers = len(tensors.experts), [map(self._to_pack, each) for each in matrices]
        mlps = self.ops.pack_experts(*layers, count, **self._packing)
        shared = None if tensors.shared is None else self._mlp(tensors.shared)
        if tensors.correction is None:
            return ExpertsWeights(self.ops.pack_linear(*self._weight_and_bias(tensors.router)), mlps, shared=shared)
        (matrix,) = tensors.router.tensors()
        wide = (self.source.tensor(*one, self.device, torch.float32) for one in (matrix, tensors.correction))
        router, correction = wide
        return ExpertsWeights(self.ops.pack_plain(router), mlps, correction, shared)

    def _each(self, stack: Stack) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Weight and bias of one linear layer of every expert. The stack is read when the first is asked for."""
        weight, bias = (self.read(name, *shape) for name, shape in (stack.weight, stack.bias))
        for expert in range(stack.count):
            yield _of_expert(stack, weight, expert), _of_expert(stack, bias, expert)

    def _sinks(self, name: str, heads: int) -> torch.Tensor:
        return self.source.tensor(name, (heads,), self.device, torch.float32)

    @functools.cached_property
    def _per_layer_table(self) -> torch.Tensor:
        """[vocab, layers, size], of the layers that will be read."""
        inputs, layers = self.config.per_layer_inputs, self.config.num_layers
        assert inputs is not None
        table = self.read(PER_LAYER_EMBEDDING, inputs.vocab_size, layers * inputs.size).unflatten(1, (layers, -1))
        # A copy, so that what other devices have is not kept.
        return table if len(self.layers) == layers else table[:, self.layers.start : self.layers.stop].clone()

    def _per_layer(self, tensors: PerLayerTensors, index: int) -> PerLayerWeights:
        table = self._per_layer_table[:, index - self.layers.start]
        return PerLayerWeights(
            table=table,
            projection=self._packed(tensors.projection),
            projection_norm=self.norm(PER_LAYER_NORM, table.shape[1]),
            gate=self._packed(tensors.gate),
            out=self._packed(tensors.out),
            norm=self.norm(f"{tensors.norm}.weight", self.config.hidden_size),
        )

    def _mlp(self, tensors: MlpTensors) -> MlpWeights:
        gate_up = self.ops.pack_gated(*self._to_pack(tensors.gate_up), **self._packing)
        return MlpWeights(gate_up, self._packed(tensors.down))

    def _packed(self, matrix: Matrix, rotating: int = 0) -> Any:
        return self.ops.pack_linear(*self._to_pack(matrix, rotating), **self._packing)

    def _to_pack(self, matrix: Matrix, rotating: int = 0) -> tuple[torch.Tensor | Fp8Rows, torch.Tensor | None]:
        """`_weight_and_bias`, the weight in fp8 where linear layers are."""
        if self._packing.get("quantized") != "fp8":
            return self._weight_and_bias(matrix, rotating)
        weight = read_fp8(self.source, matrix, self.device)
        bias = self._fused(matrix, "bias") if matrix.has_bias else None
        self._put_in_order(rotating, weight.levels.view(torch.uint8), weight.scale, bias)
        return weight, bias

    def _weight_and_bias(self, matrix: Matrix, rotating: int = 0) -> tuple[torch.Tensor, torch.Tensor | None]:
        """rotating: leading heads whose dimensions come in the order of `rotary_order`."""
        weight = self._fused(matrix, "weight", matrix.columns)
        bias = self._fused(matrix, "bias") if matrix.has_bias else None
        self._put_in_order(rotating, weight, bias)
        return weight, bias

    def _put_in_order(self, rotating: int, *tensors: torch.Tensor | None) -> None:
        """The rows of `rotating` leading heads, in place."""
        if self._order is None or not rotating:
            return
        for tensor in tensors:
            if tensor is not None:
                heads = tensor[: rotating * self.config.head_dim].unflatten(0, (rotating, -1))
                heads.copy_(heads[:, self._order])

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
            stored = self.read(name, part.stored_rows, *columns)
            fused[first : first + part.rows] = stored[part.first : part.first + part.rows]
            first += part.rows
            del stored
        return fused


def _of_expert(stack: Stack, tensor: torch.Tensor, expert: int) -> torch.Tensor:
    """A copy of one expert's matrix [outputs, inputs] or bias [outputs], gate before up."""
    own = tensor[expert].T if tensor.dim() == 3 else tensor[expert]
    if stack.in_turns:
        return torch.cat([own[0::2], own[1::2]])
    return own.clone(memory_format=torch.contiguous_format)


def _rotated_norms(q_weight: torch.Tensor, k_weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Norms of heads that rotated before, as norms of heads that rotate afterwards.

    A rotation changes no length, so only the weights have to wait for it; and as scores multiply a query with a key,
    number by number, the query may have the weights of both.
    """
    ones = torch.ones_like(q_weight)
    return {"q_norm": ones, "k_norm": ones, "query_scale": q_weight.float() * k_weight.float()}
