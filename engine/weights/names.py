"""Every tensor of a model by its Hugging Face name, and how the matrices of the forward pass are made of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from preftree.engine.config.model_config import ModelConfig

EMBEDDING, FINAL_NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
SCALAR_HEAD = "score.weight"
PER_LAYER_EMBEDDING, PER_LAYER_NORM = "model.embed_tokens_per_layer.weight", "model.per_layer_projection_norm.weight"
PER_LAYER_PROJECTION = "model.per_layer_model_projection"
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Part:
    """`rows` rows of a stored matrix that has `of` of them, from `first` on. name: without ".weight"."""

    name: str
    rows: int
    first: int = 0
    of: int = 0

    @property
    def stored_rows(self) -> int:
        return self.of or self.rows


@dataclass(frozen=True)
class Matrix:
    """Parts of stored matrices, one below the other. has_bias: every one of them has a vector beside it."""

    parts: tuple[Part, ...]
    columns: int
    has_bias: bool = False

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for part in self.parts:
            yield f"{part.name}.weight", (part.stored_rows, self.columns)
            if self.has_bias:
                yield f"{part.name}.bias", (part.stored_rows,)


@dataclass(frozen=True)
class MlpTensors:
    """gate_up: gate first, [2 * width, hidden]. down: [hidden, width]."""

    gate_up: Matrix
    down: Matrix


@dataclass(frozen=True)
class PerLayerTensors:
    """What brings a token's embedding for one layer into it.

    projection: of the token's common embedding, [size, hidden]. gate: of the residual stream, [size, hidden]. out:
    [hidden, size]. norm: after it, without ".weight".
    """

    projection: Matrix
    gate: Matrix
    out: Matrix
    norm: str


@dataclass(frozen=True)
class LayerTensors:
    """One layer. norms: name and size by the role that `Architecture.norms` gives them, and "q" and "k".

    scalar: name of the number that the layer's result is multiplied with. q, kv, o: attention's matrices, kv with keys
    first, None where the layer uses those of another. mlp: the MLP, or None where there are a router and experts.
    """

    norms: dict[str, tuple[str, int]]
    q: Matrix
    kv: Matrix | None
    o: Matrix
    mlp: MlpTensors | None
    router: Matrix | None
    experts: tuple[MlpTensors, ...]
    scalar: str | None = None
    per_layer: PerLayerTensors | None = None

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for name, size in self.norms.values():
            yield f"{name}.weight", (size,)
        if self.scalar is not None:
            yield self.scalar, (1,)
        mlps = self.experts if self.mlp is None else (self.mlp,)
        matrices = [self.q, self.kv, self.o, *(matrix for mlp in mlps for matrix in (mlp.gate_up, mlp.down))]
        if self.per_layer is not None:
            own = self.per_layer
            yield f"{own.norm}.weight", (own.out.parts[0].rows,)
            matrices += [own.projection, own.gate, own.out]
        for matrix in filter(None, [*matrices, self.router]):
            yield from matrix.tensors()


def layer_tensors(config: ModelConfig, index: int) -> LayerTensors:
    """What layer `index` is made of."""
    prefix, family, hidden = f"model.layers.{index}.", config.family, config.hidden_size
    heads = config.heads[config.heads_of(index)]
    norms = {role: (prefix + name, hidden) for role, name in family.norms.items()}
    if family.qk_norm is not None:
        is_wide = family.qk_norm == "width"
        norms["q"] = (f"{prefix}self_attn.q_norm", heads.q_size if is_wide else heads.size)
    has_kv = config.kv_source(index) == index
    if family.qk_norm is not None and has_kv:
        norms["k"] = (f"{prefix}self_attn.k_norm", heads.kv_size if is_wide else heads.size)

    def attention(*parts: tuple[str, int]) -> tuple[Part, ...]:
        if "qkv" not in family.fused:
            return tuple(Part(f"{prefix}self_attn.{name}", rows) for name, rows in parts)
        first = 0 if parts[0][0] == "q_proj" else heads.q_size
        rows = sum(count for _, count in parts)
        return (Part(f"{prefix}self_attn.qkv_proj", rows, first, of=heads.q_size + 2 * heads.kv_size),)

    has_experts = config.experts is not None and index in config.experts.layers
    router, experts = _experts(config, prefix) if has_experts else (None, ())
    values = "k_proj" if heads.keys_are_values else "v_proj"
    return LayerTensors(
        norms=norms,
        q=Matrix(attention(("q_proj", heads.q_size)), hidden, config.qkv_bias),
        kv=Matrix(attention(("k_proj", heads.kv_size), (values, heads.kv_size)), hidden, config.qkv_bias)
        if has_kv
        else None,
        o=Matrix((Part(f"{prefix}self_attn.o_proj", hidden),), heads.q_size, config.output_bias),
        mlp=None if has_experts else _mlp(config, prefix, config.mlp_size(index)),
        router=router,
        experts=experts,
        scalar=f"{prefix}layer_scalar" if family.layer_scalar else None,
        per_layer=_per_layer(config, index, prefix),
    )


def _per_layer(config: ModelConfig, index: int, prefix: str) -> PerLayerTensors | None:
    if config.per_layer_inputs is None:
        return None
    size, hidden = config.per_layer_inputs.size, config.hidden_size
    return PerLayerTensors(
        projection=Matrix((Part(PER_LAYER_PROJECTION, size, index * size, of=config.num_layers * size),), hidden),
        gate=Matrix((Part(f"{prefix}per_layer_input_gate", size),), hidden),
        out=Matrix((Part(f"{prefix}per_layer_projection", hidden),), size),
        norm=f"{prefix}post_per_layer_input_norm",
    )


def _mlp(config: ModelConfig, prefix: str, inner: int) -> MlpTensors:
    hidden, bias = config.hidden_size, config.mlp_bias
    parts: tuple[Part, ...] = (Part(f"{prefix}mlp.gate_proj", inner), Part(f"{prefix}mlp.up_proj", inner))
    if "mlp" in config.family.fused:
        parts = (Part(f"{prefix}mlp.gate_up_proj", 2 * inner),)
    return MlpTensors(Matrix(parts, hidden, bias), Matrix((Part(f"{prefix}mlp.down_proj", hidden),), inner, bias))


def _experts(config: ModelConfig, prefix: str) -> tuple[Matrix, tuple[MlpTensors, ...]]:
    names, sizes, hidden = config.family.experts, config.experts, config.hidden_size
    assert names is not None
    assert sizes is not None

    def expert(number: int) -> MlpTensors:
        path = prefix + names.expert.format(number)
        gate_up = (Part(path + names.gate, sizes.width), Part(path + names.up, sizes.width))
        return MlpTensors(Matrix(gate_up, hidden), Matrix((Part(path + names.down, hidden),), sizes.width))

    router = Matrix((Part(prefix + names.router, sizes.count),), hidden)
    return router, tuple(expert(number) for number in range(sizes.count))


def num_parameters(config: ModelConfig) -> int:
    """Stored numbers, a tied embedding counted once."""
    return sum(math.prod(shape) for shape in expected_tensors(config).values())


def num_linear_parameters(config: ModelConfig) -> int:
    """Those of the layers' matrices, which are stored in 8 bits where a model is quantized."""
    tensors: Shapes = {}
    for index in range(config.num_layers):
        tensors.update(layer_tensors(config, index).tensors())
    return sum(math.prod(shape) for shape in tensors.values() if len(shape) == 2)


def unread_tensors(config: ModelConfig) -> frozenset[str]:
    """Keys and values of layers that use those of others: some files hold them, from training."""
    layers = (layer for layer in range(config.num_layers) if config.kv_source(layer) != layer)
    names = ("k_proj", "v_proj", "k_norm", "v_norm")
    return frozenset(f"model.layers.{layer}.self_attn.{name}.weight" for layer in layers for name in names)


def expected_tensors(config: ModelConfig) -> Shapes:
    """Every tensor of the model by its Hugging Face name, with its shape; the output matrix only if untied."""
    tensors: Shapes = {EMBEDDING: (config.vocab_size, config.hidden_size)}
    for index in range(config.num_layers):
        tensors.update(layer_tensors(config, index).tensors())
    tensors[FINAL_NORM] = (config.hidden_size,)
    if config.per_layer_inputs is not None:
        own = config.per_layer_inputs
        tensors[PER_LAYER_EMBEDDING] = (own.vocab_size, config.num_layers * own.size)
        tensors[PER_LAYER_NORM] = (own.size,)
    if config.is_reward_model:
        tensors[SCALAR_HEAD] = (1, config.hidden_size)
    elif not config.tie_embeddings:
        tensors[HEAD] = (config.vocab_size, config.hidden_size)
    return tensors
