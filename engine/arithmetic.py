"""A fingerprint of the arithmetic of this process: a small fixed model is run, and its bits are hashed.

Two processes that differ in it would give different labels: another processor, another version of a library, or an
environment variable that makes a library choose other instructions.
"""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

from preftree.engine.config.hf_config import from_hf
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.device import choose_target
from preftree.engine.model.model import Model
from preftree.engine.opening import open_weights
from preftree.engine.openmp import dismiss_team
from preftree.engine.scoring.readout import LabelReadout
from preftree.engine.scoring.runner import Runner
from preftree.engine.weights.names import expected_tensors
from preftree.engine.weights.safetensors import CPU

# Large enough for several tiles, chunks and threads in every operation, small enough for a tenth of a second.
_CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 1000,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 2,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e4,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "attention_bias": False,
    "use_sliding_window": False,
    "sliding_window": None,
    "max_window_layers": 2,
}
_PROMPTS, _SHARED, _OWN = 6, 70, 37


def fingerprint(device: str, dtype: str) -> str | None:
    """Hash the bits of a fixed computation.

    Args:
        device: where it runs, such as "cpu".
        dtype: of matrix products: "float32", "bfloat16", "float16", "int8" or "fp8".

    Returns:
        16 hexadecimal digits; None on a GPU, whose name and library versions decide.
    """
    return _computed(dtype, torch.get_num_threads()) if torch.device(device).type == "cpu" else None


@functools.cache
def _computed(dtype: str, threads: int) -> str:
    """threads: their number may decide how sums are split, so that it is part of what is cached."""
    config = from_hf(_CONFIG, "the arithmetic's model")
    target = choose_target(config, "cpu", dtype, None)
    weights = open_weights(_FixedTensors(config), config, target)
    shared = _draw("shared", _SHARED) % config.vocab_size
    prompts = [
        np.concatenate([shared, _draw(f"own {place}", _OWN * (place + 1)) % config.vocab_size]).tolist()
        for place in range(_PROMPTS)
    ]
    labels = [[[5], [6], [7, 8]]] * _PROMPTS
    runner = Runner(config, Model(config, weights, target), target)
    (call,) = runner.run([(prompts, LabelReadout(labels))], prefix_cache=False)
    scores = call.readout.scores(call.cost)
    dismiss_team()  # another thread may be the one that scores
    found = hashlib.sha256()
    for numbers in (scores.logprob, scores.label_mass):
        found.update(np.asarray(numbers, np.float64).tobytes())
    return found.hexdigest()[:16]


class _FixedTensors:
    """Weights that are the same on every machine, a `TensorSource`: bits of a generator, on a grid that floats hold."""

    files: tuple[Path, ...] = ()

    def __init__(self, config: ModelConfig) -> None:
        self._shapes = expected_tensors(config)

    def names(self) -> frozenset[str]:
        return frozenset(self._shapes)

    def stored_types(self) -> Counter[str]:
        return Counter({"F32": len(self._shapes)})

    def tensor(
        self, name: str, shape: tuple[int, ...], device: torch.device = CPU, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """Multiples of 1/8192 around 0 for matrices, around 1 for norms."""
        drawn = (_draw(name, int(np.prod(shape))) % 2048 - 1024).astype(np.float32) / 8192
        return torch.from_numpy(drawn + ("norm" in name)).reshape(shape).to(device, dtype)

    def close(self) -> None:
        """Nothing is open."""


def _draw(name: str, number: int) -> np.ndarray:
    """The raw output of a bit generator, which no version of NumPy changes, as int64."""
    raw = np.random.PCG64(crc32(name.encode())).random_raw((number + 3) // 4)
    return raw.view(np.uint16)[:number].astype(np.int64)
