"""The metadata of a GGUF file in the words of a config.json, which `from_hf` then checks like any other."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from preftree.engine.errors import ModelError

# llama.cpp's names of the architectures that preftree reads from GGUF; they are Hugging Face's model_types, too.
ARCHITECTURES = ("llama", "qwen2", "qwen3")
# What changes the numbers and has no place in these architectures' config.json.
REFUSED = (
    "expert_count",
    "attention.sliding_window",
    "attention.scale",
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "embedding_scale",
    "residual_scale",
    "logit_scale",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_log_multiplier",
    "use_parallel_residual",
)
FACTORS = "rope_freqs.weight"
# Llama 3's scaling: all models of the family share these three, and their converter bakes them into FACTORS.
LOW, HIGH, ORIGINAL = 1.0, 4.0, 8192


def config_json(
    metadata: dict[str, Any], names: frozenset[str], factors: Callable[[], np.ndarray] | None
) -> dict[str, Any]:
    """names: the file's tensors. factors: reads FACTORS, what each frequency is divided by, if it is there.

    ModelError for what is missing, or would change the numbers unseen.
    """
    kind = metadata.get("general.architecture")
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"architecture {kind!r:.100} is not supported; preftree reads GGUF files of {known}")

    def need(field: str) -> Any:
        if f"{kind}.{field}" not in metadata:
            raise ModelError(f"the metadata {kind}.{field} is missing; use another file")
        return metadata[f"{kind}.{field}"]

    for field in REFUSED:
        if metadata.get(f"{kind}.{field}"):
            raise ModelError(f"{kind}.{field} is not supported in a GGUF file; use the model's safetensors instead")
    hidden, heads = need("embedding_length"), need("attention.head_count")
    if not (isinstance(hidden, int) and isinstance(heads, int) and 0 < heads <= hidden):
        raise ModelError(f"{kind}.attention.head_count does not fit {kind}.embedding_length")
    head_dim = metadata.get(f"{kind}.attention.key_length", hidden // heads)
    for field in ("attention.value_length", "rope.dimension_count"):
        if metadata.get(f"{kind}.{field}", head_dim) != head_dim:
            raise ModelError(f"{kind}.{field} differs from the head size {head_dim}, which is not supported")
    tokens = metadata.get("tokenizer.ggml.tokens")
    theta = decimal(metadata.get(f"{kind}.rope.freq_base", 10000.0))
    return {
        "model_type": kind,
        "vocab_size": metadata.get(f"{kind}.vocab_size", len(tokens) if isinstance(tokens, list) else 0),
        "hidden_size": hidden,
        "intermediate_size": need("feed_forward_length"),
        "num_hidden_layers": need("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.get(f"{kind}.attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": decimal(need("attention.layer_norm_rms_epsilon")),
        "rope_theta": theta,
        "rope_scaling": _scaling(metadata, kind, names, None if factors is None else (factors(), theta, head_dim)),
        "max_position_embeddings": need("context_length"),
        "tie_word_embeddings": "output.weight" not in names,
    }


def _scaling(
    metadata: dict[str, Any], kind: str, names: frozenset[str], baked: tuple[np.ndarray, Any, Any] | None
) -> dict[str, Any] | None:
    """`rope_scaling` of a config.json. baked: factors, theta and head size of a file that holds FACTORS."""
    if any(name.startswith("rope_factors") or ".rope_" in name for name in names):
        raise ModelError(
            "rope factors by tensor are not supported but for Llama 3's; use the model's safetensors instead"
        )
    named = metadata.get(f"{kind}.rope.scaling.type", "none")
    factor = metadata.get(f"{kind}.rope.scaling.factor", metadata.get(f"{kind}.rope.scale_linear", 1.0))
    plain = named == "none" and factor in (0, 1)
    if baked is not None:
        if not plain:
            raise ModelError(f"{FACTORS} together with rope scaling {named!r:.100} is not supported")
        return _llama3(*baked)
    if plain:
        return None
    scaling = {"rope_type": "linear" if named == "none" else named, "factor": decimal(factor)}
    original = metadata.get(f"{kind}.rope.scaling.original_context_length")
    return scaling if original is None else {**scaling, "original_max_position_embeddings": original}


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
