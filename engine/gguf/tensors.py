"""A GGUF file as a model: its tensors under Hugging Face names, dequantised."""

import math
from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from preftree.engine.config.hf_config import from_hf
from preftree.engine.config.limits import LIMITS
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.errors import ModelError
from preftree.engine.files import naming
from preftree.engine.gguf.architectures import family_of
from preftree.engine.gguf.config import ROPE_TENSORS, config_json
from preftree.engine.gguf.header import TENSOR_TYPES, GgufTensor
from preftree.engine.gguf.names import by_hf_name
from preftree.engine.gguf.parts import read_parts
from preftree.engine.gguf.stacks import stacked, stacks_of
from preftree.engine.gguf.tokenizer import adds_bos, byte_level_json, read_tokenizer
from preftree.engine.tokenizer.tokenizer import Tokenizer
from preftree.engine.weights.conversion import joined
from preftree.engine.weights.mapped_file import MappedFile
from preftree.engine.weights.safetensors import CPU, SLICE, check_shape

# Numbers that are dequantised at a time: the library's arithmetic takes several times as much memory as its result, and
# is fastest where that stays in a core's cache.
CHUNK = 1 << 16


class GgufSource:
    """TensorSource over a GGUF file, or all parts of one, which also brings sizes, tokenizer and chat template.

    ModelError when the file is broken, of an architecture that is not read from GGUF, or needs what preftree lacks.
    """

    def __init__(self, path: Path) -> None:
        """path: the file, or any of its parts."""
        parts = read_parts(path)
        self.files = parts.files
        self._metadata = parts.metadata
        self._open: dict[Path, MappedFile] = {}
        with naming(path):
            described = config_json(
                parts.metadata, frozenset(parts.tensors), lambda name: self._rope_factors(name, parts.tensors[name])
            )
            self.config: ModelConfig = from_hf(described, str(path))
            weights = {name: place for name, place in parts.tensors.items() if name not in ROPE_TENSORS}
            family = family_of(parts.metadata)
            assert family is not None
            self._permuted = ("self_attn.q_proj.weight", "self_attn.k_proj.weight") if family.permuted else ()
            self._stacks, single = stacks_of(weights, self.config)
            self._tensors = by_hf_name(single, self.config, family)

    def tokenizer(self) -> Tokenizer:
        """ModelError for one that is broken or not read."""
        with naming(self.files[0]):
            return read_tokenizer(self._metadata, self.bos_token, self.eos_token)

    @property
    def tokenizer_json(self) -> dict[str, Any]:
        """Of a file with a byte-level tokenizer: Hugging Face's tokenizer.json with its vocabulary."""
        return byte_level_json(self._metadata, self.bos_token if adds_bos(self._metadata) else None)

    @property
    def chat_template(self) -> str | None:
        template = self._metadata.get("tokenizer.chat_template")
        if template is not None and not isinstance(template, str):
            raise ModelError(f"{self.files[0]}: tokenizer.chat_template is {template!r:.100}, which is no template")
        return template

    @property
    def bos_token(self) -> str | None:
        return self._token("tokenizer.ggml.bos_token_id")

    @property
    def eos_token(self) -> str | None:
        return self._token("tokenizer.ggml.eos_token_id")

    def _token(self, key: str) -> str | None:
        index, tokens = self._metadata.get(key), self._metadata.get("tokenizer.ggml.tokens")
        if index is None or not isinstance(tokens, list):
            return None
        if type(index) is not int or not 0 <= index < len(tokens):
            raise ModelError(f"{self.files[0]}: {key} is {index!r:.100}, which is not in the vocabulary")
        return str(tokens[index])

    def names(self) -> frozenset[str]:
        return frozenset(self._tensors) | frozenset(self._stacks)

    def stored_types(self) -> Counter[str]:
        places = chain(self._tensors.values(), *self._stacks.values())
        return Counter(TENSOR_TYPES[place.type_number][0] for place in places)

    def tensor(
        self, name: str, shape: tuple[int, ...], device: torch.device = CPU, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """See TensorSource; made on the host, rows of q and k in Hugging Face's order.

        As stored is float32, but for Gemma's norms: their files hold 1 + weight, and float64 loses nothing of that.
        """
        if name in self._stacks:
            return stacked(self._stacks[name], shape, self._floats, dtype or torch.float32, name).to(device)
        if name not in self._tensors:
            raise ModelError(f"{self.files[0]}: tensor {name} is missing; use another file")
        place = self._tensors[name]
        check_shape(place.shape, name, shape, str(place.path))
        chunks, stored = self._chunks(place), torch.float32
        if name.endswith(self._permuted):
            head = self.config.head_dim, shape[1]
            chunks = (_rotate_half_rows(chunk.reshape(-1, *head)) for chunk in self._chunks(place, math.prod(head)))
        elif self.config.family.centred_norms and name.endswith("norm.weight"):
            chunks, stored = (chunk.astype(np.float64) - 1 for chunk in self._chunks(place)), torch.float64
        slices = (torch.from_numpy(chunk) for chunk in _gathered(chunks))
        return joined(slices, shape, device, dtype or stored, name, str(place.path))

    def _rope_factors(self, name: str, place: GgufTensor) -> np.ndarray:
        if math.prod(place.shape) > LIMITS["head_dim"]:
            raise ModelError(f"tensor {name} has the impossible shape {place.shape}; use another file")
        return self._floats(place)

    def _floats(self, place: GgufTensor) -> np.ndarray:
        return np.concatenate([chunk.ravel() for chunk in self._chunks(place)]).reshape(place.shape)

    def _chunks(self, place: GgufTensor, unit: int = 1) -> Iterator[np.ndarray]:
        """All numbers in float32, of whole blocks and multiples of `unit` numbers at a time."""
        _, block, block_bytes = TENSOR_TYPES[place.type_number]
        if place.path not in self._open:
            self._open[place.path] = MappedFile(place.path)
        file = self._open[place.path]
        unit = math.lcm(unit, block)
        step = max(1, CHUNK // unit) * unit // block * block_bytes
        for first in range(place.begin, place.end, step):
            last = min(first + step, place.end)
            yield dequantise(
                np.frombuffer(file.view(first, last), np.uint8).reshape(-1, block_bytes), place.type_number
            )
            file.release(first, last)

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()


def dequantise(data: np.ndarray, type_number: int) -> np.ndarray:
    """float32 [blocks, numbers in a block] from uint8 [blocks, bytes of a block], of one of `TENSOR_TYPES`."""
    try:
        import gguf
    except ImportError:
        raise ModelError("reading GGUF needs the package gguf; install it with: pip install gguf") from None
    kind = gguf.GGMLQuantizationType(type_number)
    views = {gguf.GGMLQuantizationType.F32: np.float32, gguf.GGMLQuantizationType.F16: np.float16}
    if kind in views:
        return data.view(views[kind]).astype(np.float32)
    with np.errstate(all="ignore"):  # a damaged scale gives NaN, which `check_finite` reports by the tensor's name
        # As one row: the library goes over the rows of a matrix in many small steps.
        return np.asarray(gguf.quants.dequantize(data.reshape(1, -1), kind), dtype=np.float32).reshape(len(data), -1)


def _gathered(chunks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same numbers, a few chunks at a time: torch wakes all threads for every operation on one."""
    while few := list(islice(chunks, SLICE // CHUNK)):
        yield np.concatenate([chunk.ravel() for chunk in few])


def _rotate_half_rows(heads: np.ndarray) -> np.ndarray:
    """Undo llama.cpp's row order. heads: [heads, head_dim, hidden].

    llama.cpp rotates neighbouring rows (2i, 2i + 1) of a head, Hugging Face rows (i, i + head_dim / 2); its
    converter interleaved the halves (`LlamaModel.permute` in convert_hf_to_gguf.py).
    """
    count, rows, columns = heads.shape
    return heads.reshape(count, rows // 2, 2, columns).swapaxes(1, 2).reshape(heads.shape)
