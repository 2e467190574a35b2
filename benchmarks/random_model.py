"""A model of any size with random weights, in a Hugging Face directory: bytes are its tokens."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers

from engine.loading.config import ModelConfig, RopeConfig, to_hf
from engine.loading.weights import expected_tensors

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
