"""Models as Hugging Face directories, for transformers: config, tokenizer and weights of what preftree has open."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from preftree.engine.config.architecture import Experts, Windows
from preftree.engine.config.hf_config import ACTIVATIONS
from preftree.engine.config.hf_rope import LAYER_TYPES
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.config.rope import RopeConfig
from preftree.engine.gguf.embedded import embedded_file
from preftree.engine.gguf.tensors import GgufSource
from preftree.engine.weights.names import expected_tensors


@cache
def embedded_directory(weights: bool = True) -> Path:
    """The embedded model, converted once a process (some seconds, 540 MB), and removed with it.

    weights: without them it is there at once.
    """
    directory = Path(tempfile.mkdtemp(prefix="preftree-embedded-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    convert(embedded_file(), directory, weights)
    return directory


def convert(source: Path, directory: Path, weights: bool = True) -> None:
    """Write the GGUF file `source` into `directory` as config, tokenizer files and float32 safetensors."""
    from safetensors.torch import save_file

    gguf = GgufSource(source)
    tokenizer = gguf.tokenizer()
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": gguf.bos_token,
        "eos_token": gguf.eos_token,
        "chat_template": gguf.chat_template,
        "clean_up_tokenization_spaces": False,
        "model_max_length": gguf.config.max_context,
    }
    config = to_hf(gguf.config, tokenizer.bos_id, tokenizer.eos_id)
    files = {"tokenizer.json": gguf.tokenizer_json, "tokenizer_config.json": settings, "config.json": config}
    for name, value in files.items():
        (directory / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    if weights:
        tensors = {name: gguf.tensor(name, shape) for name, shape in expected_tensors(gguf.config).items()}
        save_file(tensors, str(directory / "model.safetensors"), metadata={"format": "pt"})
    gguf.close()


def to_hf(config: ModelConfig, bos_id: int | None = None, eos_id: int | None = None) -> dict[str, Any]:
    """The config.json that `from_hf` and transformers (4 and 5) open as a float32 model of the same architecture."""
    family = config.family
    context = config.rope.original_context if config.rope.kind == "dynamic" else config.max_context
    fields = {
        "architectures": [family.class_name],
        "model_type": config.architecture,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        family.activation[0]: _activation(config),
        family.norm_eps_field: config.norm_eps,
        **_ropes_to_hf(config.rope, config.local_rope, family.partial_rotary is not None),
        "max_position_embeddings": context,
        "tie_word_embeddings": config.tie_embeddings,
        **{family.named(field): getattr(config, field) for field in (*family.bias_fields, *family.multipliers)},
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "torch_dtype": "float32",
    }
    if family.query_scalar is not None:
        fields["query_pre_attn_scalar"] = config.query_scalar
    caps = {"attn_logit_softcapping": config.attention_softcap, "final_logit_softcapping": config.final_softcap}
    fields |= {field: caps[field] for field in family.soft_caps}
    if family.qk_norm_field is not None:
        fields[family.qk_norm_field] = config.qk_norm
    if family.unrotated_every is not None:
        fields["no_rope_layers"] = [int(layer not in config.unrotated) for layer in range(config.num_layers)]
    if family.windows is not None:
        fields |= _windows_to_hf(config, family.windows)
    if config.latent is not None:
        fields |= config.latent.fields | {"rope_interleave": config.rope.interleaved}
        del fields["head_dim"]
    if family.draft_layers:
        fields["num_nextn_predict_layers"] = config.draft_layers
    if family.experts is not None:
        fields |= _experts_to_hf(config, family.experts)
    if config.global_heads is not None:
        heads = config.global_heads
        own = {"head_dim": heads.size, "num_key_value_heads": heads.kv_count}
        full = (layer for layer in range(config.num_layers) if config.heads_of(layer))
        fields |= {"attention_k_eq_v": heads.keys_are_values, "per_layer_config": {str(layer): own for layer in full}}
    if family.per_layer_inputs is not None:
        fields |= {"num_kv_shared_layers": config.kv_shared_layers, "use_double_wide_mlp": config.has_wide_shared_mlp}
        fields["hidden_size_per_layer_input"] = 0
    if config.per_layer_inputs is not None:
        inputs = config.per_layer_inputs
        fields |= {"hidden_size_per_layer_input": inputs.size, "vocab_size_per_layer_input": inputs.vocab_size}
    return fields


def _activation(config: ModelConfig) -> str:
    kind = "silu" if config.family.clamped_gate else config.activation
    return next(name for name, known in ACTIVATIONS.items() if known == kind)


def _windows_to_hf(config: ModelConfig, rule: Windows) -> dict[str, Any]:
    sizes = {window for window in config.windows if window is not None}
    window = next(iter(sizes), None)
    fields: dict[str, Any] = {"sliding_window": window}
    if rule.switch is not None:
        fields[rule.switch] = window is not None
    if rule.typed:
        names = (
            "sliding_attention" if config.window_of(layer) else "full_attention" for layer in range(config.num_layers)
        )
        fields["layer_types"] = list(names)
    return fields


def _experts_to_hf(config: ModelConfig, names: Experts) -> dict[str, Any]:
    experts = config.experts
    assert experts is not None
    fields: dict[str, Any] = {names.count: experts.count, "num_experts_per_tok": experts.per_token}
    fields[names.width] = experts.width
    if not names.always_normalised:
        fields["norm_topk_prob"] = experts.normalised
    if names.sparse_fields:
        fields["mlp_only_layers"] = sorted(set(range(config.num_layers)) - experts.layers)
    if names.shared is not None:
        fields[names.shared.field] = experts.shared_width // (experts.width if names.shared.counted else 1)
    if names.sigmoid is not None:
        dense = config.num_layers - len(experts.layers)
        fields |= {"n_group": experts.groups, "topk_group": experts.kept_groups, "first_k_dense_replace": dense}
        fields["routed_scaling_factor"] = experts.scaling
    return fields


def _ropes_to_hf(rope: RopeConfig, local: RopeConfig | None, partial: bool) -> dict[str, Any]:
    """The fields of config.json that `ropes_from_hf` and transformers read as these two.

    partial: the share that rotates is one of them.
    """
    if local is not None:
        return {"rope_parameters": dict(zip(LAYER_TYPES, (_rope_to_hf(rope), _rope_to_hf(local)), strict=True))}
    fields: dict[str, Any] = {"rope_theta": rope.theta, "rope_scaling": _rope_to_hf(rope)}
    if partial:
        fields["partial_rotary_factor"] = rope.partial
    if rope.kind == "longrope":
        fields["original_max_position_embeddings"] = rope.original_context
    if rope.kind == "default":
        fields["rope_scaling"] = None
    return fields


def _rope_to_hf(rope: RopeConfig) -> dict[str, Any]:
    fields: dict[str, Any] = {"rope_type": rope.kind, "rope_theta": rope.theta}
    if rope.kind != "default":
        fields["factor"] = rope.factor
    if rope.kind in ("llama3", "yarn", "longrope"):
        fields["original_max_position_embeddings"] = rope.original_context
    if rope.kind == "llama3":
        fields |= {"low_freq_factor": rope.low_freq_factor, "high_freq_factor": rope.high_freq_factor}
    if rope.kind in ("yarn", "longrope"):
        fields["attention_factor"] = rope.attention_factor
    if rope.kind == "yarn":
        fields |= {"beta_fast": rope.beta_fast, "beta_slow": rope.beta_slow, "truncate": rope.truncate}
    if rope.kind == "proportional":
        fields["partial_rotary_factor"] = rope.partial
    if rope.mscale_all_dim:
        fields["mscale_all_dim"] = rope.mscale_all_dim
    if rope.query_growth:
        fields["llama_4_scaling_beta"] = rope.query_growth
    if rope.kind == "longrope":
        fields |= {"short_factor": list(rope.short_factor), "long_factor": list(rope.long_factor)}
    return fields
