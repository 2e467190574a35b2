"""Reading config.json: the sizes, the rotary embedding, and every refusal."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ModelError
from engine.loading.config import ModelConfig, RopeConfig, from_hf, rope_frequencies, to_hf
from engine.loading.weights import expected_tensors
from tests.models import CONFIG

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def read(**changes: Any) -> ModelConfig:
    return from_hf({key: value for key, value in (CONFIG | changes).items() if value is not ...}, "DIR/config.json")


def test_derived_sizes_and_parameter_count() -> None:
    """Catches a projection sized by hidden_size where heads * head_dim differs, and a head counted when tied."""
    config = read(head_dim=16, tie_word_embeddings=True)
    assert (config.group_size, config.q_size, config.kv_size) == (2, 64, 32)
    for tied in (True, False):
        config = read(head_dim=16, tie_word_embeddings=tied)
        assert config.num_parameters == sum(int(np.prod(shape)) for shape in expected_tensors(config).values())


def test_defaults_are_those_of_transformers() -> None:
    """Catches another default than transformers' for a key that old checkpoints leave out."""
    config = read(num_key_value_heads=..., rms_norm_eps=..., max_position_embeddings=..., tie_word_embeddings=...)
    assert (config.num_kv_heads, config.head_dim, config.norm_eps) == (4, 8, 1e-6)
    assert (config.max_context, config.tie_embeddings, config.rope) == (2048, False, RopeConfig())


@pytest.mark.parametrize(
    "rope",
    [
        {},
        {"rope_theta": 500000.0},
        {"rope_theta": 1e5, "rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_theta": 500000.0, "rope_scaling": LLAMA3},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}},
        {"rope_parameters": LLAMA3 | {"rope_theta": 500000.0}},
    ],
)
def test_frequencies_equal_transformers(rope: dict[str, Any]) -> None:
    """Catches a wrong formula, and a theta or factor read from the wrong place of the old or the new style."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    ours = read(**rope, head_dim=64).rope
    theirs = LlamaRotaryEmbedding(LlamaConfig(**(CONFIG | {"head_dim": 64}), **json.loads(json.dumps(rope))))
    assert theirs.attention_scaling == 1.0
    frequencies = rope_frequencies(ours, 64)
    assert frequencies.shape == (32,)
    np.testing.assert_allclose(frequencies, theirs.inv_freq.numpy(), rtol=1e-6)


@pytest.mark.parametrize("rope", [{}, {"rope_scaling": LLAMA3}, {"rope_scaling": {"type": "linear", "factor": 2}}])
def test_written_config_reads_back(rope: dict[str, Any]) -> None:
    """Catches a field that to_hf forgets, and a file that transformers understands differently."""
    from transformers import LlamaConfig

    config = read(**rope, rope_theta=1e5, head_dim=16)
    written = to_hf(config, 0, 1)
    assert from_hf(written, "again") == config
    theirs = LlamaConfig(**written)
    assert theirs.rope_parameters["rope_theta"] == 1e5
    assert theirs.rope_parameters["rope_type"] == config.rope.kind


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "mixtral"}, "model_type 'mixtral'.*preftree runs model_type 'llama'"),
        ({"model_type": ...}, "model_type None"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures"),
        ({"architectures": 7}, "architectures"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2}}, "rope type 'dynamic'"),
        ({"rope_scaling": {"type": ["a"]}}, "rope type"),
        ({"rope_scaling": {"type": "linear"}}, "needs the field factor"),
        ({"rope_scaling": 3}, "rope_scaling"),
        ({"rope_scaling": LLAMA3 | {"high_freq_factor": 1.0}}, "high_freq_factor"),
        ({"rope_scaling": LLAMA3, "rope_parameters": {"rope_type": "default"}}, "they differ"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_theta": float("nan")}, "rope_theta"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers|num_layers"),
        ({"num_hidden_layers": 5000}, "num_layers"),
        ({"num_hidden_layers": ...}, "num_hidden_layers is missing"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_attention_heads": 4.0}, "num_heads"),
        ({"hidden_size": "32"}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"head_dim": 0}, "head_dim"),
        ({"head_dim": 7}, "head_dim"),
        ({"num_key_value_heads": 3}, "num_kv_heads"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"rms_norm_eps": float("inf")}, "rms_norm_eps"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ],
)
def test_refused_in_one_line(changes: dict[str, Any], named: str) -> None:
    """Catches a model that would load and compute something else, or allocate without end."""
    with pytest.raises(ModelError) as error:
        read(**changes)
    assert str(error.value).startswith("DIR/config.json: ")
    assert "\n" not in str(error.value)
    assert re.search(named, str(error.value))


def test_harmless_keys_pass() -> None:
    """Catches a refusal of keys that change nothing, found in published Llama checkpoints."""
    read(pretraining_tp=2, use_cache=True, initializer_range=0.02, rope_scaling=None, mlp_bias=False)


def test_a_changed_config_is_validated_too() -> None:
    """Catches validation that only from_hf does."""
    with pytest.raises(ModelError, match="architecture"):
        replace(read(), architecture="gpt2")


def test_broken_json_names_the_file(model_dir: Path, edit_json: Callable[..., None]) -> None:
    """Catches a traceback of the json module for a broken, doubled or absurdly nested config."""
    from engine.loading.files import read_json

    path = model_dir / "config.json"
    for text in ('{"a": 1, "a": 2}', "{", "[1]", "[" * 100_000, "", "\ud800"):
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(ModelError, match=re.escape(str(path))) as error:
            read_json(path)
        assert "\n" not in str(error.value)
