"""What callers hand in, checked: prompts and labels as token ids, and the engine's options."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from engine.errors import InputError
from engine.loading.config import ModelConfig
from engine.planning.trie import TokenIds
from kernels.ops import implementation

Labels = Sequence[Sequence[int]]  # of one prompt: the token ids of each label

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEFAULT_BATCH_TOKENS = 4096


def checked_prompts(prompts: Sequence[Sequence[int]], labels: Sequence[Labels], config: ModelConfig) -> list[TokenIds]:
    """The prompts as arrays; labels are looked at, too. InputError names the first thing that is wrong."""
    if not len(prompts):
        raise InputError("there are no prompts to score")
    if len(prompts) != len(labels):
        raise InputError(f"there are {len(prompts)} prompts but labels for {len(labels)}")
    return [
        _checked_prompt(index, prompt, options, config)
        for index, (prompt, options) in enumerate(zip(prompts, labels, strict=True))
    ]


def _checked_prompt(index: int, prompt: Sequence[int], labels: Labels, config: ModelConfig) -> TokenIds:
    ids = _token_ids(f"prompt {index}", prompt, config)
    if not len(labels):
        raise InputError(f"prompt {index} has no labels")
    for label in labels:
        _token_ids(f"a label of prompt {index}", label, config)
    longest = len(ids) + max(len(label) for label in labels) - 1
    if longest > config.max_context:
        raise InputError(
            f"prompt {index} has {longest:,} tokens with its longest label, "
            f"the model's context is {config.max_context:,}"
        )
    return ids


def _token_ids(name: str, tokens: Sequence[int], config: ModelConfig) -> TokenIds:
    ids = np.asarray(tokens)
    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu":
        raise InputError(f"{name} must be a non-empty list of token ids")
    if ids.min() < 0 or ids.max() >= config.vocab_size:
        raise InputError(f"{name} has token ids outside 0 to {config.vocab_size - 1}")
    return ids.astype(np.int64)


def continuation_tokens(labels: Sequence[Labels]) -> list[int]:
    """Rows that the labels of each prompt add: an upper bound, since labels may share their beginnings."""
    return [sum(len(label) - 1 for label in options) for options in labels]


def device_of(name: str | None) -> torch.device:
    """None and "auto" are the best device that preftree has kernels for."""
    try:
        device = torch.device("cpu" if name in (None, "auto") else str(name))
        implementation(device)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def dtype_of(name: str | None) -> torch.dtype:
    """None is float32, the CPU's."""
    if name is not None and name not in DTYPES:
        raise InputError(f"dtype {name!r} is not supported; use one of {', '.join(DTYPES)}")
    return DTYPES[name or "float32"]


def batch_tokens_of(value: int | None) -> int:
    """None is the default budget."""
    if value is not None and value < 1:
        raise InputError(f"batch_tokens is {value}; it must be at least 1")
    return value or DEFAULT_BATCH_TOKENS
