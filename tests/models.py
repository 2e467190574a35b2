"""Small models to load: a byte-level tokenizer and random weights, made without transformers."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from preftree.engine.config.hf_config import from_hf
from preftree.engine.weights.names import expected_tensors

BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTE_CHARACTERS = [chr(b) for b in BYTES] + [chr(256 + i) for i in range(256 - len(BYTES))]
CONTROL = ["<s>", "</s>", "<|user|>"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|user|>' + m['role'] + '\n' + m['content'] + eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|user|>assistant\n' }}{% endif %}"
)
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": len(CONTROL) + 256 + 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
}
# Room for whole judging prompts, and grouped queries.
SMALL_CONFIG = CONFIG | {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
# Heads of another size than hidden_size / heads, and a norm of its own for each.
QWEN3_CONFIG = SMALL_CONFIG | {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "head_dim": 24,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "attention_bias": False,
    "use_sliding_window": False,
    "sliding_window": None,
    "max_window_layers": 2,
}
# Sinks, alternating windows, experts that are stacked and have biases, a rotary embedding beyond its original context.
GPT_OSS_CONFIG = SMALL_CONFIG | {
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "intermediate_size": 32,
    "head_dim": 16,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": 37,
    "rope_theta": 1e4,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 64,
        "truncate": False,
    },
}
# Of a model with a head of one score in place of the output matrix, whatever its sizes.
REWARD_HEAD = {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
QK_NORMS = ("q_norm.weight", "k_norm.weight")


def tokenizer_data(**changes: Any) -> dict[str, Any]:
    """A tokenizer.json: three control tokens, all bytes, two merges."""
    vocab = [*CONTROL, *BYTE_CHARACTERS, "th", "the"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    data: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, **flags} for i, token in enumerate(CONTROL)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(vocab)},
            "merges": [["t", "h"], ["th", "e"]],
        },
    }
    return data | changes


def write_model(directory: Path, config: dict[str, Any] | None = None) -> Path:
    """A Hugging Face directory with random float32 weights, the same for the same sizes."""
    directory.mkdir(parents=True, exist_ok=True)
    config = CONFIG if config is None else config
    generator = torch.Generator().manual_seed(0)
    # Normed queries and keys are as long as their norms say: around 1.5, so that a row prefers some keys to others.
    tensors = {
        name: torch.randn(shape, generator=generator) * (3.0 if name.endswith("sinks") else 0.1)
        + (1.5 if name.endswith(QK_NORMS) else 0.0)
        for name, shape in expected_tensors(from_hf(config, "test")).items()
    }
    save_file(tensors, str(directory / "model.safetensors"), metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_tokenizer(directory)
    return directory


def write_tokenizer(directory: Path) -> None:
    """The tests' tokenizer and chat template, for models whose other files come from elsewhere."""
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": {"__type": "AddedToken", "content": "</s>"},
        "chat_template": TEMPLATE,
    }
    for name, value in (("tokenizer.json", tokenizer_data()), ("tokenizer_config.json", settings)):
        (directory / name).write_text(json.dumps(value), encoding="utf-8")
