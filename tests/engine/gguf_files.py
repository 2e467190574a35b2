"""GGUF files of the models that `tests.models` writes, as llama.cpp's converter would write them."""

import json
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


def write_gguf(
    path: Path,
    directory: Path,
    kind: str = "F32",
    more: Mapping[str, Any] | None = None,
    tokenizer: Callable[[gguf.GGUFWriter, Path], None] = add_byte_tokenizer,
    tensors: Mapping[str, np.ndarray] | None = None,
    split: int = 0,
) -> Path:
    """The model of `directory`; matrices of whole blocks become `kind`. more: metadata of the architecture, by its
    suffix. tensors: some more. split: tensors in a part of many, 0: one file."""
    config = json.loads((directory / "config.json").read_text())
    architecture, heads = config["model_type"], config["num_attention_heads"]
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=split)
    values = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.freq_base": float(config.get("rope_theta", 10000.0)),
    }
    if "head_dim" in config:
        values |= {"attention.key_length": config["head_dim"], "attention.value_length": config["head_dim"]}
    for key, value in (values | dict(more or {})).items():
        adders: dict[type, Callable[[str, Any], None]] = {
            int: writer.add_uint32, float: writer.add_float32, str: writer.add_string
        }  # fmt: skip
        adders[type(value)](f"{architecture}.{key}", value)
    tokenizer(writer, directory)
    for name, tensor in load_file(directory / "model.safetensors").items():
        stored = tensor.numpy()
        if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
            stored = permute(stored, heads if "q_proj" in name else config["num_key_value_heads"])
        wanted = gguf.GGMLQuantizationType[kind]
        fits = stored.ndim == 2 and stored.shape[1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0
        raw_type = wanted if fits else gguf.GGMLQuantizationType.F32
        writer.add_tensor(gguf_name(name), gguf.quants.quantize(stored, raw_type), raw_dtype=raw_type)
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
