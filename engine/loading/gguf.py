"""A GGUF file as a model: Llama tensors under Hugging Face names, dequantised to float32."""

import mmap
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.errors import ModelError
from engine.loading.config import ModelConfig
from engine.loading.files import naming
from engine.loading.gguf_header import GgufTensor, read_header
from engine.loading.gguf_tokenizer import tokenizer_json
from engine.loading.rope import RopeConfig
from engine.loading.weights import CPU, check_finite, check_shape

MODEL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
LAYER_TENSOR = re.compile(r"blk\.(\d{1,6})\.(\w+)\.weight")


class GgufSource:
    """TensorSource over one GGUF file, which also brings sizes, tokenizer and chat template.

    ModelError when the file is broken, of another architecture than llama, or in need of what preftree lacks.
    """

    def __init__(self, path: Path) -> None:
        header = read_header(path)
        self.files: tuple[Path, ...] = (path,)
        self._metadata = header.metadata
        with naming(path):
            self.config: ModelConfig = _config(header.metadata, frozenset(header.tensors))
        self._tensors = {_hf_name(name): tensor for name, tensor in header.tensors.items()}
        self._map: mmap.mmap | None = None

    @property
    def tokenizer_json(self) -> str:
        """Text of a Hugging Face tokenizer.json with this file's vocabulary."""
        with naming(self.files[0]):
            return tokenizer_json(self._metadata, self.bos_token if self.adds_bos else None)

    @property
    def chat_template(self) -> str | None:
        template = self._metadata.get("tokenizer.chat_template")
        return template if isinstance(template, str) else None

    @property
    def bos_token(self) -> str | None:
        return self._token("tokenizer.ggml.bos_token_id")

    @property
    def eos_token(self) -> str | None:
        return self._token("tokenizer.ggml.eos_token_id")

    @property
    def adds_bos(self) -> bool:
        """Whether a prompt begins with BOS. False where unsaid, as in llama.cpp for these tokenizers."""
        return self._metadata.get("tokenizer.ggml.add_bos_token") is True

    def _token(self, key: str) -> str | None:
        index, tokens = self._metadata.get(key), self._metadata.get("tokenizer.ggml.tokens")
        if index is None or not isinstance(tokens, list):
            return None
        if type(index) is not int or not 0 <= index < len(tokens):
            raise ModelError(f"{self.files[0]}: {key} is {index!r:.100}, which is not in the vocabulary")
        return str(tokens[index])

    def names(self) -> frozenset[str]:
        return frozenset(self._tensors)

    def tensor(self, name: str, shape: tuple[int, ...], device: torch.device = CPU) -> torch.Tensor:
        """See TensorSource; always float32, made on the host. Rows of q and k are put back in Hugging Face's order."""
        path = self.files[0]
        if name not in self._tensors:
            raise ModelError(f"{path}: tensor {name} is missing; use another file")
        place = self._tensors[name]
        check_shape(place.shape, name, shape, str(path))
        values = _dequantise(self._bytes(place), place)
        if name.endswith("self_attn.q_proj.weight"):
            values = _rotate_half_rows(values, self.config.num_heads)
        elif name.endswith("self_attn.k_proj.weight"):
            values = _rotate_half_rows(values, self.config.num_kv_heads)
        return check_finite(torch.from_numpy(np.ascontiguousarray(values)).to(device), name, str(path))

    def _bytes(self, place: GgufTensor) -> np.ndarray:
        """A copy of the tensor's bytes, so that nothing points into the mapped file."""
        if self._map is None:
            with self.files[0].open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if place.end > len(self._map):
            raise ModelError(f"{self.files[0]}: has become shorter since it was opened; download it again")
        return np.frombuffer(self._map[place.begin : place.end], dtype=np.uint8)

    def close(self) -> None:
        if self._map is not None:
            self._map.close()
            self._map = None


def _hf_name(name: str) -> str:
    """Hugging Face name of a llama.cpp tensor; unknown ones keep theirs, and fail as unknown later."""
    match = LAYER_TENSOR.fullmatch(name)
    if match and match[2] in LAYER_NAMES:
        return f"model.layers.{int(match[1])}.{LAYER_NAMES[match[2]]}.weight"
    return MODEL_NAMES.get(name, name)


def _dequantise(data: np.ndarray, place: GgufTensor) -> np.ndarray:
    """float32 of `place.shape` from the tensor's bytes, uint8 [bytes]."""
    try:
        import gguf
    except ImportError:
        raise ModelError("reading GGUF needs the package gguf; install it with: pip install gguf") from None
    kind = gguf.GGMLQuantizationType(place.type_number)
    views = {gguf.GGMLQuantizationType.F32: np.float32, gguf.GGMLQuantizationType.F16: np.float16}
    if kind in views:
        return data.view(views[kind]).reshape(place.shape).astype(np.float32)
    rows = data.reshape(*place.shape[:-1], -1)
    with np.errstate(all="ignore"):  # a damaged scale gives NaN, which `check_finite` reports by the tensor's name
        return np.asarray(gguf.quants.dequantize(rows, kind), dtype=np.float32).reshape(place.shape)


def _rotate_half_rows(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Undo llama.cpp's row order. weight: [num_heads * head_dim, hidden].

    llama.cpp rotates neighbouring rows (2i, 2i + 1) of a head, Hugging Face rows (i, i + head_dim / 2); its
    converter interleaved the halves (`LlamaModel.permute` in convert_hf_to_gguf.py).
    """
    rows, columns = weight.shape
    pairs = weight.reshape(num_heads, rows // num_heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def _config(metadata: dict[str, Any], names: frozenset[str]) -> ModelConfig:
    """ModelConfig from a GGUF file's metadata and tensor names; ModelError for what is not a plain Llama."""
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise ModelError(f"architecture {architecture!r:.100} is not supported; preftree reads GGUF of llama only")

    def need(field: str) -> Any:
        if f"llama.{field}" not in metadata:
            raise ModelError(f"the metadata llama.{field} is missing; use another file")
        return metadata[f"llama.{field}"]

    if metadata.get("llama.expert_count"):
        raise ModelError("mixtures of experts (llama.expert_count) are not supported")
    hidden, heads = need("embedding_length"), need("attention.head_count")
    if not (isinstance(hidden, int) and isinstance(heads, int) and 0 < heads <= hidden):
        raise ModelError("llama.attention.head_count does not fit llama.embedding_length")
    head_dim = metadata.get("llama.attention.key_length", hidden // heads)
    for field in ("attention.value_length", "rope.dimension_count"):
        if metadata.get(f"llama.{field}", head_dim) != head_dim:
            raise ModelError(f"llama.{field} differs from the head size {head_dim}, which is not supported")
    tokens = metadata.get("tokenizer.ggml.tokens")
    return ModelConfig(
        architecture="llama",
        vocab_size=metadata.get("llama.vocab_size", len(tokens) if isinstance(tokens, list) else 0),
        hidden_size=hidden,
        intermediate_size=need("feed_forward_length"),
        num_layers=need("block_count"),
        num_heads=heads,
        num_kv_heads=metadata.get("llama.attention.head_count_kv", heads),
        head_dim=head_dim,
        norm_eps=_decimal(need("attention.layer_norm_rms_epsilon")),
        rope=_rope(metadata, names),
        max_context=need("context_length"),
        tie_embeddings="output.weight" not in names,
    )


def _rope(metadata: dict[str, Any], names: frozenset[str]) -> RopeConfig:
    """Rotary embedding: plain, or linearly scaled. ModelError for other scalings."""
    if any(name.startswith("rope_freqs") or ".rope_" in name for name in names):
        raise ModelError("rope_freqs.weight is not supported; use the model's safetensors instead")
    theta = _decimal(metadata.get("llama.rope.freq_base", 10000.0))
    kind = metadata.get("llama.rope.scaling.type", "none")
    factor = metadata.get("llama.rope.scaling.factor", metadata.get("llama.rope.scale_linear", 1.0))
    if kind == "none" and factor in (0, 1):
        return RopeConfig(theta=theta)
    if kind in ("linear", "none"):
        return RopeConfig(theta=theta, kind="linear", factor=_decimal(factor))
    raise ModelError(f"rope scaling {kind!r:.100} is not supported in GGUF; use the model's safetensors instead")


def _decimal(value: Any) -> Any:
    """GGUF stores float32: 1e-05 comes back as 9.999999747378752e-06. The shortest decimal was meant."""
    return float(str(np.float32(value))) if isinstance(value, float) else value
