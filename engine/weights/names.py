"""Every tensor of a model by its Hugging Face name."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from preftree.engine.weights.stacked import StackedExperts
from preftree.engine.weights.tensors import ExpertsTensors, LayerTensors, Matrix, MlpTensors, Part, PerLayerTensors

if TYPE_CHECKING:
    from preftree.engine.config.heads import Heads
    from preftree.engine.config.latent import Latent
    from preftree.engine.config.model_config import ModelConfig

EMBEDDING, FINAL_NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
SCALAR_HEAD = "score.weight"
PER_LAYER_EMBEDDING, PER_LAYER_NORM = "model.embed_tokens_per_layer.weight", "model.per_layer_projection_norm.weight"
PER_LAYER_PROJECTION = "model.per_layer_model_projection"
Shapes = dict[str, tuple[int, ...]]


def layer_tensors(config: ModelConfig, index: int) -> LayerTensors:
    """What layer `index` is made of."""
    prefix, family, hidden = f"model.layers.{index}.", config.family, config.hidden_size
    heads = config.heads[config.heads_of(index)]
    norms = {role: (prefix + name, hidden) for role, name in family.norms.items()}
    has_kv = config.kv_source(index) == index
    if config.has_qk_norm:
        is_wide = family.qk_norm == "width"
        q_name, k_name = family.qk_norm_names
        norms["q"] = (f"{prefix}self_attn.{q_name}", heads.q_size if is_wide else heads.size)
        if has_kv:
            norms["k"] = (f"{prefix}self_attn.{k_name}", heads.kv_size if is_wide else heads.size)
    if config.latent is not None:
        norms["kv_latent"] = (f"{prefix}self_attn.kv_a_layernorm", config.latent.kv_rank)
        if config.latent.q_rank is not None:
            norms["q_latent"] = (f"{prefix}self_attn.q_a_layernorm", config.latent.q_rank)
    has_experts = config.experts is not None and index in config.experts.layers
    attention = (
        _attention(config, heads, has_kv, prefix)
        if config.latent is None
        else _latent_attention(config, config.latent, prefix)
    )
    return LayerTensors(
        norms=norms,
        **attention,
        mlp=None if has_experts else _mlp(config, prefix, config.mlp_size(index)),
        experts=_experts(config, prefix) if has_experts else None,
        sinks=(f"{prefix}self_attn.sinks", config.num_heads) if family.has_sinks else None,
        scalar=f"{prefix}layer_scalar" if family.layer_scalar else None,
        per_layer=_per_layer(config, index, prefix),
    )


def _attention(config: ModelConfig, heads: Heads, has_kv: bool, prefix: str) -> dict[str, Any]:
    def stored(*parts: tuple[str, int]) -> tuple[Part, ...]:
        if "qkv" not in config.family.fused:
            return tuple(Part(f"{prefix}self_attn.{name}", rows) for name, rows in parts)
        first = 0 if parts[0][0] == "q_proj" else heads.q_size
        rows = sum(count for _, count in parts)
        return (Part(f"{prefix}self_attn.qkv_proj", rows, first, of=heads.q_size + 2 * heads.kv_size),)

    hidden, bias = config.hidden_size, config.qkv_bias
    values = "k_proj" if heads.keys_are_values else "v_proj"
    return {
        "q": Matrix(stored(("q_proj", heads.q_size)), hidden, bias),
        "kv": Matrix(stored(("k_proj", heads.kv_size), (values, heads.kv_size)), hidden, bias) if has_kv else None,
        "o": Matrix((Part(f"{prefix}self_attn.o_proj", hidden),), heads.q_size, config.output_bias),
    }


def _latent_attention(config: ModelConfig, latent: Latent, prefix: str) -> dict[str, Any]:
    """As stored: without padding."""
    heads, hidden, bias = config.num_heads, config.hidden_size, config.qkv_bias

    def matrix(name: str, rows: int, columns: int, has_bias: bool = False) -> Matrix:
        return Matrix((Part(f"{prefix}self_attn.{name}", rows),), columns, has_bias)

    found = {
        "kv_latent": matrix("kv_a_proj_with_mqa", latent.kv_rank + latent.rotated, hidden, bias),
        "kv": matrix("kv_b_proj", heads * (latent.still + latent.value), latent.kv_rank),
        "o": matrix("o_proj", hidden, heads * latent.value, config.output_bias),
    }
    if latent.q_rank is None:
        return found | {"q": matrix("q_proj", heads * latent.key_size, hidden)}
    q_latent = matrix("q_a_proj", latent.q_rank, hidden, bias)
    return found | {"q_latent": q_latent, "q": matrix("q_b_proj", heads * latent.key_size, latent.q_rank)}


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


def _experts(config: ModelConfig, prefix: str) -> ExpertsTensors:
    names, sizes, hidden = config.family.experts, config.experts, config.hidden_size
    assert names is not None
    assert sizes is not None
    if names.stacked is not None:
        router = Matrix((Part(prefix + names.router, sizes.count),), hidden, has_bias=True)
        stacked = StackedExperts.under(prefix + names.stacked, sizes.count, hidden, sizes.width)
        return ExpertsTensors(router, stacked=stacked)

    def mlp(path: str, width: int) -> MlpTensors:
        gate_up = (Part(prefix + path + names.gate, width), Part(prefix + path + names.up, width))
        return MlpTensors(Matrix(gate_up, hidden), Matrix((Part(prefix + path + names.down, hidden),), width))

    rows, shared = [Part(prefix + names.router, sizes.count)], None
    if names.shared is not None:
        shared = mlp(names.shared.prefix, sizes.shared_width)
        if names.shared.gate is not None:
            rows.append(Part(prefix + names.shared.gate, 1))
    correction = None if names.sigmoid is None else (prefix + names.sigmoid.correction, (sizes.count,))
    experts = tuple(mlp(names.expert.format(number), sizes.width) for number in range(sizes.count))
    return ExpertsTensors(Matrix(tuple(rows), hidden), experts, shared=shared, correction=correction)


def num_parameters(config: ModelConfig, layers: range | None = None) -> int:
    """Stored numbers, a tied embedding counted once. layers: as in `expected_tensors`."""
    return sum(math.prod(shape) for shape in expected_tensors(config, layers).values())


def num_padding(config: ModelConfig, layers: range | None = None) -> int:
    """Zeros that the matrices of latent attention hold in memory, to give heads of one size."""
    latent = config.latent
    if latent is None:
        return 0
    queries = (latent.head_size - latent.key_size) * (latent.q_rank or config.hidden_size)
    keys_values = (2 * latent.head_size - latent.still - latent.value) * latent.kv_rank
    return len(_all_or(layers, config)) * config.num_heads * (queries + keys_values)


def num_linear_parameters(config: ModelConfig, layers: range | None = None) -> int:
    """Those of the layers' matrices, without routers."""
    return sum(layer_tensors(config, index).num_linear_parameters for index in _all_or(layers, config))


def num_quantized_parameters(config: ModelConfig, quantized: str, layers: range | None = None) -> int:
    """Those of the layers' matrices that a model has in 8 bits."""
    if quantized == "int8":
        return num_linear_parameters(config, layers)
    return sum(layer_tensors(config, index).num_fp8_parameters for index in _all_or(layers, config))


def unread_modules(config: ModelConfig) -> frozenset[str]:
    """Modules that a file may hold, from training, and nothing reads, in whatever tensors they are stored.

    Keys and values of layers that use those of others, and the output matrix that a reward model has kept.
    """
    layers = (layer for layer in range(config.num_layers) if config.kv_source(layer) != layer)
    names = ("k_proj", "v_proj", "k_norm", "v_norm")
    found = {f"model.layers.{layer}.self_attn.{name}" for layer in layers for name in names}
    return frozenset(found | {HEAD.removesuffix(".weight")} if config.is_reward_model else found)


def expected_tensors(config: ModelConfig, layers: range | None = None) -> Shapes:
    """Every tensor of the model by its Hugging Face name, with its shape; the output matrix only if untied.

    layers: those of one stage, for what its device holds: the embedding where it is the first, norm and output matrix
    where it is the last, and of embeddings for each layer its share. None for all layers.
    """
    layers = _all_or(layers, config)
    is_first, is_last = layers.start == 0, layers.stop == config.num_layers
    tensors: Shapes = {}
    if is_first or (is_last and config.tie_embeddings and not config.is_reward_model):
        tensors[EMBEDDING] = (config.vocab_size, config.hidden_size)
    for index in layers:
        tensors.update(layer_tensors(config, index).tensors())
    if is_last:
        tensors[FINAL_NORM] = (config.hidden_size,)
    if config.per_layer_inputs is not None:
        own = config.per_layer_inputs
        tensors[PER_LAYER_EMBEDDING] = (own.vocab_size, len(layers) * own.size)
        tensors[PER_LAYER_NORM] = (own.size,)
    if is_last and config.is_reward_model:
        tensors[SCALAR_HEAD] = (1, config.hidden_size)
    elif is_last and not config.tie_embeddings:
        tensors[HEAD] = (config.vocab_size, config.hidden_size)
    return tensors


def _all_or(layers: range | None, config: ModelConfig) -> range:
    return range(config.num_layers) if layers is None else layers


def is_draft(config: ModelConfig, name: str) -> bool:
    """Whether a tensor is of a layer after the last, which only drafts tokens."""
    number = name.removeprefix("model.layers.").partition(".")[0]
    is_layer = name.startswith("model.layers.") and number.isdecimal() and number.isascii() and len(number) < 5
    return is_layer and 0 <= int(number) - config.num_layers < config.draft_layers
