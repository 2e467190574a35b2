"""Experts that Hugging Face stores in one tensor [experts, inputs, outputs], out of GGUF's [experts, outputs, inputs].

Of two parts, gate and up, the outputs take turns.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.gguf.header import GgufTensor
from preftree.engine.weights.conversion import check_finite, check_range
from preftree.engine.weights.safetensors import check_shape

_TENSOR = re.compile(r"blk\.(\d{1,6})\.ffn_(gate|up|down)_exps\.(weight|bias)")
_NAMES = {"gate": "gate_up_proj", "up": "gate_up_proj", "down": "down_proj"}
Parts = tuple[GgufTensor, ...]


def stacks_of(tensors: Mapping[str, GgufTensor], config: ModelConfig) -> tuple[dict[str, Parts], dict[str, GgufTensor]]:
    """Stacked tensors by their Hugging Face names, each with its parts, and all tensors that are no part of one."""
    names = config.family.experts
    if names is None or names.stacked is None:
        return {}, dict(tensors)
    found: dict[str, Parts] = {}
    others: dict[str, GgufTensor] = {}
    for name, tensor in sorted(tensors.items()):  # gate before up
        match = _TENSOR.fullmatch(name)
        if match is None:
            others[name] = tensor
        else:
            end = "_bias" if match[3] == "bias" else ""
            whole = f"model.layers.{int(match[1])}.{names.stacked}{_NAMES[match[2]]}{end}"
            found[whole] = (*found.get(whole, ()), tensor)
    return found, others


def stacked(
    parts: Parts,
    shape: tuple[int, ...],
    read: Callable[[GgufTensor], np.ndarray],
    dtype: torch.dtype,
    name: str,
) -> torch.Tensor:
    """The tensor of `shape`, an expert at a time. read: gives the numbers of a place in float32.

    ModelError for parts of other shapes, or that are not finite; InputError for what `dtype` does not hold.
    """
    experts, turns = shape[0], 2 if name.rpartition(".")[2].startswith("gate_up") else 1
    expected = (experts, shape[-1] // turns, *shape[1:-1])
    origin = str(parts[0].path)
    check_shape((len(parts), *parts[0].shape), name, (turns, *expected), origin)
    whole = torch.empty(shape, dtype=dtype)
    for turn, part in enumerate(parts):
        check_shape(part.shape, name, expected, origin)
        size = (part.end - part.begin) // experts
        for expert in range(experts):
            begin = part.begin + expert * size
            numbers = torch.from_numpy(read(replace(part, shape=part.shape[1:], begin=begin, end=begin + size)))
            own = whole[expert, ..., turn::turns]
            own.copy_(check_finite(numbers, name, origin).T if numbers.dim() == 2 else numbers)
            check_range(own, name, torch.float32)
    return whole
