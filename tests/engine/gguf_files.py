"""GGUF files of the models that `tests.models` writes, as llama.cpp's converter would write them."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    import gguf
else:
    gguf = pytest.importorskip("gguf")

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.layers.": "blk.",
}


def permute(weight: np.ndarray, heads: int) -> np.ndarray:
    """As `LlamaModel.permute` in llama.cpp's convert_hf_to_gguf.py."""
    return (
        weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)
    )


def gguf_name(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def add_byte_tokenizer(writer: gguf.GGUFWriter, directory: Path, pre: str = "gpt-2") -> None:
    """The tokenizer.json of `directory`, which is a byte-level BPE."""
    data = json.loads((directory / "tokenizer.json").read_text())
    vocab = sorted(data["model"]["vocab"], key=data["model"]["vocab"].get)
    control = {token["content"] for token in data["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(vocab)
    writer.add_token_types([3 if token in control else 1 for token in vocab])
    writer.add_token_merges([" ".join(pair) for pair in data["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)


# llama.cpp's names of families, and of the fields of their config.json, where they differ from Hugging Face's.
ARCHITECTURES = {
    "gemma3_text": "gemma3",
    "qwen3_moe": "qwen3moe",
    "qwen2_moe": "qwen2moe",
    "mixtral": "llama",
    "cohere": "command-r",
    "hunyuan_v1_dense": "hunyuan-dense",
    "olmo3": "olmo2",
    "mistral": "mistral3",
    "ministral3": "mistral3",
    "gpt_oss": "gpt-oss",
}
PERMUTED = ("llama", "smollm3", "granite", "mistral3")
FIELDS = {
    "sliding_window": "attention.sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
    "attention_multiplier": "attention.scale",
    "embedding_multiplier": "embedding_scale",
    "residual_multiplier": "residual_scale",
    "logits_scaling": "logit_scale",
    "logit_scale": "logit_scale",
    "num_experts": "expert_count",
    "num_local_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "shared_expert_intermediate_size": "expert_shared_feed_forward_length",
    "moe_intermediate_size": "expert_feed_forward_length",
    "original_max_position_embeddings": "rope.scaling.original_context_length",
}


def converted(directory: Path, architecture: str, layers: int) -> dict[str, np.ndarray]:
    """The tensors of a directory by llama.cpp's names, from the library's own table: fused experts, Gemma's norms."""
    found = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(found, layers)
    tensors: dict[str, np.ndarray] = {}
    experts: dict[str, list[np.ndarray]] = {}
    stored = {name: tensor.numpy() for name, tensor in load_file(directory / "model.safetensors").items()}
    for name in sorted(stored, key=lambda name: [int(part) if part.isdigit() else 0 for part in name.split(".")]):
        array = stored[name]
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            array = array + 1
        fused = re.sub(r"experts\.\d+\.", "experts.", name)
        if architecture == "gpt-oss" and ".experts." in name:
            tensors |= _unstacked(name, array)
            continue
        theirs = names.get_name(fused + ".weight" * name.endswith("sinks"), try_suffixes=(".weight", ".bias"))
        assert theirs is not None, name
        if fused != name:
            experts.setdefault(theirs, []).append(array)
        else:
            tensors[theirs] = array.squeeze()
    return tensors | {name: np.stack(arrays) for name, arrays in experts.items()}


def _unstacked(name: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """gpt-oss: [experts, inputs, outputs] with gate and up in turns becomes [experts, outputs, inputs] of each."""
    kind = "bias" if name.endswith("_bias") else "weight"
    turned = array if kind == "bias" else array.swapaxes(1, 2)
    parts = {"gate": turned[:, 0::2], "up": turned[:, 1::2]} if "gate_up" in name else {"down": turned}
    layer = name.split(".")[2]
    return {f"blk.{layer}.ffn_{part}_exps.{kind}": np.ascontiguousarray(own) for part, own in parts.items()}


def _apart(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        each = {name.replace("_exps.", f".{number}."): expert for number, expert in enumerate(array)}
        found |= each if "_exps." in name else {name: array}
    return found


def write_gguf(
    path: Path,
    directory: Path,
    kind: str = "F32",
    more: Mapping[str, Any] | None = None,
    tokenizer: Callable[[gguf.GGUFWriter, Path], None] = add_byte_tokenizer,
    tensors: Mapping[str, np.ndarray] | None = None,
    split: int = 0,
    apart: bool = False,
) -> Path:
    """The model of `directory`; matrices of whole blocks become `kind`. more: metadata of the architecture, by its
    suffix. tensors: some more. split: tensors in a part of many, 0: one file. apart: a tensor for each expert, as
    converters wrote at first."""
    config = json.loads((directory / "config.json").read_text())
    kind_of_model, heads = config["model_type"], config["num_attention_heads"]
    architecture = ARCHITECTURES.get(kind_of_model, kind_of_model)
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=split)
    values = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": config["num_key_value_heads"],
        "rope.freq_base": float(config.get("rope_theta", 10000.0)),
    }
    for eps, ours in (("layer_norm_epsilon", "layer_norm_eps"), ("layer_norm_rms_epsilon", "rms_norm_eps")):
        values |= {f"attention.{eps}": float(config[ours])} if ours in config else {}
    if "head_dim" in config:
        values |= {"attention.key_length": config["head_dim"], "attention.value_length": config["head_dim"]}
    values |= {theirs: config[ours] for ours, theirs in FIELDS.items() if config.get(ours) is not None}
    for key, value in (values | dict(more or {})).items():
        adders: dict[type, Callable[[str, Any], None]] = {
            int: writer.add_uint32, float: writer.add_float32, str: writer.add_string, list: writer.add_array
        }  # fmt: skip
        adders[type(value)](f"{architecture}.{key}", value)
    tokenizer(writer, directory)
    stacked = converted(directory, architecture, config["num_hidden_layers"])
    for name, stored in (_apart(stacked) if apart else stacked).items():
        if architecture in PERMUTED and ("attn_q." in name or "attn_k." in name):
            stored = permute(stored, heads if "attn_q." in name else config["num_key_value_heads"])
        wanted = gguf.GGMLQuantizationType[kind]
        fits = stored.ndim > 1 and stored.shape[1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0
        raw_type = wanted if fits else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(stored, raw_type), raw_dtype=raw_type)
    for name, array in (tensors or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def round_through(directory: Path, kind: str) -> None:
    """Replace the weights of `directory` by what is left of them in a GGUF file of `kind`."""
    wanted = gguf.GGMLQuantizationType[kind]
    tensors = {}
    for name, tensor in load_file(directory / "model.safetensors").items():
        stored = tensor.numpy()
        if stored.ndim == 2 and stored.shape[1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0:
            stored = gguf.quants.dequantize(gguf.quants.quantize(stored, wanted), wanted)
        tensors[name] = torch.from_numpy(np.ascontiguousarray(stored, dtype=np.float32))
    save_file(tensors, str(directory / "model.safetensors"), metadata={"format": "pt"})
