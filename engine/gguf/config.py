"""The metadata of a GGUF file in the words of a config.json, which `from_hf` then checks like any other."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from preftree.engine.config.architectures import ARCHITECTURES
from preftree.engine.config.limits import LIMITS, check_whole
from preftree.engine.errors import ModelError
from preftree.engine.gguf.architectures import FAMILIES, GgufFamily, family_of

# What changes the numbers, and is not read in families that do not name it.
REFUSED = (
    "expert_count",
    "expert_shared_count",
    "expert_weights_scale",
    "attention.sliding_window",
    "attention.scale",
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "embedding_scale",
    "residual_scale",
    "logit_scale",
    "rope.freq_base_swa",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_log_multiplier",
    "attention.temperature_scale",
    "use_parallel_residual",
)
# Of YaRN, by what a config.json calls them.
YARN = {
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
    "rope.scaling.yarn_log_multiplier": "mscale_all_dim",
    "attention.temperature_scale": "llama_4_scaling_beta",
}
FACTORS, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
ROPE_TENSORS = frozenset({FACTORS, LONG, SHORT})
ATTENTION_FACTOR, ORIGINAL_CONTEXT = "rope.scaling.attn_factor", "rope.scaling.original_context_length"
# Llama 3's scaling: all models of the family share these three, and their converter bakes them into FACTORS.
LOW, HIGH, ORIGINAL = 1.0, 4.0, 8192


def config_json(metadata: dict[str, Any], names: frozenset[str], read: Callable[[str], np.ndarray]) -> dict[str, Any]:
    """names: the file's tensors. read: gives those of ROPE_TENSORS that are there.

    ModelError for what is missing, or would change the numbers unseen.
    """
    kind = metadata.get("general.architecture")
    family = family_of(metadata)
    if family is None:
        known = ", ".join(FAMILIES)
        raise ModelError(f"architecture {kind!r:.100} is not supported; preftree reads GGUF files of {known}")
    fields = {key.removeprefix(f"{kind}."): value for key, value in metadata.items() if key.startswith(f"{kind}.")}

    def need(field: str) -> Any:
        if field not in fields:
            raise ModelError(f"the metadata {kind}.{field} is missing; use another file")
        return fields[field]

    for field in REFUSED:
        reads = field in family.fields or (field == ATTENTION_FACTOR and family.longrope and LONG in names)
        if fields.get(field) and not reads and not (field in YARN and family.yarn):
            raise ModelError(f"{kind}.{field} is not supported in a GGUF file; use the model's safetensors instead")
    for field in family.needed:
        need(field)
    hidden, heads = need("embedding_length"), need("attention.head_count")
    if not (isinstance(hidden, int) and isinstance(heads, int) and 0 < heads <= hidden):
        raise ModelError(f"{kind}.attention.head_count does not fit {kind}.embedding_length")
    head_dim = fields.get("attention.key_length", hidden // heads)
    if fields.get("attention.value_length", head_dim) != head_dim:
        raise ModelError(f"{kind}.attention.value_length differs from the head size {head_dim}, which is not supported")
    tokens = metadata.get("tokenizer.ggml.tokens")
    architecture = ARCHITECTURES[family.model_type]
    norm = "layer_norm" if architecture.layer_norm else "layer_norm_rms"
    described = family.said | {
        "model_type": family.model_type,
        "vocab_size": fields.get("vocab_size", len(tokens) if isinstance(tokens, list) else 0),
        "hidden_size": hidden,
        "intermediate_size": need("feed_forward_length"),
        "num_hidden_layers": need("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.get("attention.head_count_kv", heads),
        "head_dim": head_dim,
        architecture.norm_eps_field: decimal(need(f"attention.{norm}_epsilon")),
        "rope_theta": decimal(fields.get("rope.freq_base", 10000.0)),
        "max_position_embeddings": need("context_length"),
        "tie_word_embeddings": "output.weight" not in names,
        "norm_topk_prob": family.normalised_experts,
    }
    described |= {name: decimal(fields[field]) for field, name in family.fields.items() if fields.get(field)}
    if family.wide_layers is not None:
        wide = described["num_hidden_layers"] == family.wide_layers
        described["query_pre_attn_scalar"] = hidden // heads if wide else head_dim
    described |= {name: f"blk.0.{tensor}" in names for name, tensor in family.biases.items()}
    described |= _rope(kind, family, fields, names, described, read)
    if family.typed:
        described |= _layer_types(fields, described)
    if family.layer_ropes:
        full = described.pop("rope_scaling", {"rope_type": "default"})
        theta = {"rope_theta": described.pop("rope_theta")}
        described["rope_parameters"] = {
            "full_attention": full | theta,
            "sliding_attention": {"rope_type": "default"} | theta,
        }
    return described


def _layer_types(fields: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    pattern = fields.get("attention.sliding_window_pattern")
    if not fields.get("attention.sliding_window"):
        check_whole("num_hidden_layers", described["num_hidden_layers"], LIMITS["num_layers"])
        return {"layer_types": ["full_attention"] * described["num_hidden_layers"]}
    if not isinstance(pattern, list):
        return {} if pattern is None else {"sliding_window_pattern": pattern}
    return {"layer_types": ["sliding_attention" if slides else "full_attention" for slides in pattern]}


def _rope(
    kind: Any,
    family: GgufFamily,
    fields: dict[str, Any],
    names: frozenset[str],
    described: dict[str, Any],
    read: Callable[[str], np.ndarray],
) -> dict[str, Any]:
    """`rope_scaling` and `partial_rotary_factor` of a config.json. described: the fields without those."""
    head_dim = described["head_dim"]
    rotating = fields.get("rope.dimension_count", head_dim)
    partial: dict[str, Any] = {}
    if rotating != head_dim:
        if not (ARCHITECTURES[family.model_type].partial_rotary and isinstance(rotating, int)):
            raise ModelError(
                f"{kind}.rope.dimension_count differs from the head size {head_dim}, which is not supported"
            )
        partial = {"partial_rotary_factor": rotating / head_dim}
    stretched = {LONG, SHORT} & names
    if (stretched and (not family.longrope or len(stretched) < 2)) or any(_is_other_factor(name) for name in names):
        raise ModelError(
            "rope factors by tensor are not supported but for Llama 3 and Phi-3; use the model's safetensors instead"
        )
    named = fields.get("rope.scaling.type", "none")
    factor = fields.get("rope.scaling.factor", fields.get("rope.scale_linear", 1.0))
    plain = named == "none" and factor in (0, 1)
    if FACTORS in names:
        if not plain:
            raise ModelError(f"{FACTORS} together with rope scaling {named!r:.100} is not supported")
        return partial | {"rope_scaling": _llama3(read(FACTORS), described["rope_theta"], head_dim)}
    if stretched:
        return partial | {"rope_scaling": _longrope(fields, read)}
    if plain:
        return partial
    scaling = {"rope_type": "linear" if named == "none" else named, "factor": decimal(factor)}
    if ORIGINAL_CONTEXT in fields:
        scaling["original_max_position_embeddings"] = fields[ORIGINAL_CONTEXT]
    if named == "yarn":
        scaling |= family.yarn | {ours: decimal(fields[theirs]) for theirs, ours in YARN.items() if fields.get(theirs)}
    return partial | {"rope_scaling": scaling}


def _is_other_factor(name: str) -> bool:
    return (name.startswith("rope_factors") or ".rope_" in name) and name not in ROPE_TENSORS


def _longrope(fields: dict[str, Any], read: Callable[[str], np.ndarray]) -> dict[str, Any]:
    """Phi-3's settings. `from_hf` counts the factors and checks the contexts."""
    long, short = ([decimal(value) for value in read(name).ravel().tolist()] for name in (LONG, SHORT))
    scaling = {"rope_type": "longrope", "long_factor": long, "short_factor": short}
    context, original = fields.get("context_length"), fields.get(ORIGINAL_CONTEXT)
    if not isinstance(original, int) or original < 1:
        raise ModelError(f"{ORIGINAL_CONTEXT} is {original!r:.100}, which is no number of tokens; use another file")
    given, usual = fields.get(ATTENTION_FACTOR), 1.0
    if isinstance(context, int) and context > original > 1:
        usual = math.sqrt(1 + math.log(context / original) / math.log(original))
    # Rounded to float32 it would cost bits; without it, `from_hf` takes the usual one.
    is_usual = given is None or (isinstance(given, float) and math.isclose(given, usual, rel_tol=1e-6))
    return scaling if is_usual else {**scaling, "attention_factor": given}


def _llama3(factors: np.ndarray, theta: Any, head_dim: Any) -> dict[str, Any]:
    """The settings that Llama 3's formula gives these factors for; the largest is that of the lowest frequencies."""
    factor = float(factors.max(initial=1.0))
    if isinstance(theta, float) and theta > 1 and isinstance(head_dim, int) and len(factors) * 2 == head_dim:
        frequencies = theta ** -(np.arange(0, head_dim, 2) / head_dim)
        smooth = np.clip((ORIGINAL * frequencies / (2 * math.pi) - LOW) / (HIGH - LOW), 0, 1)
        if np.allclose(factors, 1 / (smooth + (1 - smooth) / factor), rtol=1e-4):
            return {
                "rope_type": "llama3",
                "factor": decimal(factor),
                "low_freq_factor": LOW,
                "high_freq_factor": HIGH,
                "original_max_position_embeddings": ORIGINAL,
            }
    raise ModelError(f"{FACTORS} is not Llama 3's, and others are not supported; use the model's safetensors instead")


def decimal(value: Any) -> Any:
    """GGUF stores float32: 1e-05 comes back as 9.999999747378752e-06. The shortest decimal was meant."""
    return float(str(np.float32(value))) if isinstance(value, float) else value
