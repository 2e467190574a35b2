"""A model of any size with random weights, in a Hugging Face directory or in no file at all: bytes are its tokens."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers

from benchmarks.hugging_face import to_hf
from preftree.engine.checkpoint import Checkpoint
from preftree.engine.config.model_config import ModelConfig, RopeConfig
from preftree.engine.tokenizer.hf import JsonBackend
from preftree.engine.tokenizer.tokenizer import Tokenizer
from preftree.engine.weights.names import expected_tensors

# Near what trained models have: activations grow slowly over the layers, logits spread by about one nat.
WEIGHT_STD = 0.02
NORM_STD = 0.1
_CPU = torch.device("cpu")
_CONTROL = ("<s>", "</s>")
_CHAT_TEMPLATE = "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>{% endfor %}<s>assistant\n"


def small_config(num_layers: int, hidden_size: int) -> ModelConfig:
    """Heads of 32 dimensions, two query heads to a K/V head. `hidden_size`: a multiple of 64."""
    return ModelConfig(
        architecture="llama",
        vocab_size=len(_CONTROL) + 256,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_layers=num_layers,
        num_heads=hidden_size // 32,
        num_kv_heads=hidden_size // 64,
        head_dim=32,
        norm_eps=1e-5,
        rope=RopeConfig(),
        max_context=16_384,
        tie_embeddings=False,
    )


def write_random_model(directory: Path, config: ModelConfig) -> Path:
    """Write config, tokenizer and float32 weights (the same for the same sizes) into the existing `directory`."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator) * 0.1 + (1.0 if len(shape) == 1 else 0.0)
        for name, shape in expected_tensors(config).items()
    }
    save_file(tensors, str(directory / "model.safetensors"), metadata={"format": "pt"})
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": _CONTROL[0],
        "eos_token": _CONTROL[1],
        "chat_template": _CHAT_TEMPLATE,
    }
    files = {"config.json": to_hf(config), "tokenizer.json": _tokenizer(), "tokenizer_config.json": settings}
    for name, value in files.items():
        (directory / name).write_text(json.dumps(value), encoding="utf-8")
    return directory


class RandomSource:
    """TensorSource that draws every tensor on a device when it is asked for, from a seed that its name decides.

    The same name gives the same tensor again, on one kind of device. Norm weights lie around 1.
    """

    def __init__(self, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> None:
        """device: where tensors are drawn, whatever device they are then asked for on."""
        self.files: tuple[Path, ...] = ()
        self._names = frozenset(expected_tensors(config))
        self._device, self._dtype = device, dtype

    def names(self) -> frozenset[str]:
        return self._names

    def stored_types(self) -> Counter[str]:
        return Counter()

    def tensor(
        self, name: str, shape: tuple[int, ...], device: torch.device = _CPU, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        generator = torch.Generator(self._device).manual_seed(seed)
        drawn = torch.randn(shape, generator=generator, device=self._device, dtype=self._dtype)
        return (drawn.mul_(NORM_STD).add_(1) if len(shape) == 1 else drawn.mul_(WEIGHT_STD)).to(device, dtype)

    def close(self) -> None:
        """Nothing is open."""


def random_checkpoint(name: str, config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    """A model in no file: its weights are drawn on `device`. The vocabulary may be larger than the tokenizer's."""
    tokenizer = Tokenizer(JsonBackend(_tokenizer()), _CONTROL[0], _CONTROL[1], None)
    return Checkpoint(name, config, tokenizer, None, RandomSource(config, device, dtype), files=())


def _tokenizer() -> dict[str, object]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    vocab = [*_CONTROL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": token, **flags} for index, token in enumerate(_CONTROL)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {"type": "BPE", "vocab": {token: index for index, token in enumerate(vocab)}, "merges": []},
    }
