"""Hugging Face's names of the tensors of a GGUF file."""

import re
from dataclasses import replace

from preftree.engine.config.architecture import Architecture
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.errors import ModelError
from preftree.engine.gguf.architectures import GgufFamily
from preftree.engine.gguf.header import GgufTensor

MODEL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
SINKS = "attn_sinks"  # a parameter in Hugging Face, without ".weight"
SHARED_GATE = "ffn_gate_inp_shexp"
# By the roles of `Architecture.norms`.
NORMS = {
    "attention": "attn_norm",
    "post_attention": "post_attention_norm",
    "mlp": "ffn_norm",
    "post_mlp": "post_ffw_norm",
}
LAYER_TENSOR = re.compile(r"blk\.(\d{1,6})\.(\w+)\.(weight|bias)")


# Files of old converters have a tensor for each expert.
EXPERT_TENSOR = re.compile(r"blk\.(\d{1,6})\.ffn_(gate|up|down)\.(\d{1,6})\.weight")


def by_hf_name(tensors: dict[str, GgufTensor], config: ModelConfig, family: GgufFamily) -> dict[str, GgufTensor]:
    """Every tensor by its Hugging Face name; unknown ones keep theirs. ModelError for two of one name."""
    names = _layer_names(config.family, family)
    found: dict[str, GgufTensor] = {}
    for name, tensor in tensors.items():
        match = LAYER_TENSOR.fullmatch(name)
        expert = EXPERT_TENSOR.fullmatch(name)
        renamed = {MODEL_NAMES.get(name, name): tensor}
        if expert and config.experts is not None:
            path = f"model.layers.{int(expert[1])}.{names[f'ffn_{expert[2]}_exps']}.weight"
            renamed = {path.format(int(expert[3])): tensor}
        if match and match[2] in names:
            if match[2] == SHARED_GATE and len(tensor.shape) == 1:  # written as a vector, which is a matrix of one row
                tensor = replace(tensor, shape=(1, *tensor.shape))
            layer = f"model.layers.{int(match[1])}.{names[match[2]]}"
            layer = layer if match[2] == SINKS else f"{layer}.{match[3]}"
            renamed = _experts(layer, name, tensor, config) if "{}" in layer else {layer: tensor}
        if renamed.keys() & found.keys():
            raise ModelError("a tensor is there under two names; use another file")
        found |= renamed
    return found


def _layer_names(family: Architecture, theirs: GgufFamily) -> dict[str, str]:
    """The family's names of what lies in a layer; {} stands for the number of an expert."""
    norms = NORMS | theirs.norms
    names = LAYER_NAMES | {norms[role]: name for role, name in family.norms.items()}
    names |= {f"attn_{which}_norm": f"self_attn.{name}" for which, name in zip("qk", family.qk_norm_names, strict=True)}
    if family.has_sinks:
        names[SINKS] = "self_attn.sinks"
    if family.fused:
        names["ffn_up"] = "mlp.gate_up_proj"
    if family.experts is not None:
        names["ffn_gate_inp"] = family.experts.router
    if family.experts is not None and family.experts.stacked is None:
        for part in ("gate", "up", "down"):
            names[f"ffn_{part}_exps"] = family.experts.expert + getattr(family.experts, part)
        shared = family.experts.shared
        if shared is not None:
            names |= {f"ffn_{part}_shexp": f"{shared.prefix}{part}_proj" for part in ("gate", "up", "down")}
            names |= {} if shared.gate is None else {SHARED_GATE: shared.gate}
    return names


def _experts(layer: str, name: str, tensor: GgufTensor, config: ModelConfig) -> dict[str, GgufTensor]:
    """The matrices of all experts, which GGUF keeps in one tensor [experts, rows, columns]."""
    assert config.experts is not None
    count = config.experts.count
    if len(tensor.shape) != 3 or tensor.shape[0] != count:
        raise ModelError(f"tensor {name!r:.100} has shape {tensor.shape}, but there are {count} experts")
    size = (tensor.end - tensor.begin) // count
    return {
        layer.format(number): replace(
            tensor,
            shape=tensor.shape[1:],
            begin=tensor.begin + number * size,
            end=tensor.begin + (number + 1) * size,
        )
        for number in range(count)
    }
