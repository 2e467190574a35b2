"""Reading config.json: the sizes, the rotary embedding, and every refusal."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.hugging_face import to_hf
from preftree.engine.config.architectures import ARCHITECTURES
from preftree.engine.config.hf_config import from_hf
from preftree.engine.config.model_config import ModelConfig
from preftree.engine.config.rope import RopeConfig, rotary_table
from preftree.engine.errors import ModelError
from preftree.engine.weights.names import expected_tensors, num_parameters
from tests.models import CONFIG, QWEN3_CONFIG

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def read(base: dict[str, Any] = CONFIG, **changes: Any) -> ModelConfig:
    return from_hf({key: value for key, value in (base | changes).items() if value is not ...}, "DIR/config.json")


def test_derived_sizes_and_parameter_count() -> None:
    """Catches a projection sized by hidden_size where heads * head_dim differs, a norm or a tied head miscounted."""
    config = read(head_dim=16, tie_word_embeddings=True)
    assert (config.group_size, config.q_size, config.kv_size) == (2, 64, 32)
    for base, tied in product((CONFIG, QWEN3_CONFIG), (True, False)):
        config = read(base, head_dim=16, tie_word_embeddings=tied)
        assert num_parameters(config) == sum(int(np.prod(shape)) for shape in expected_tensors(config).values())


def test_defaults_are_those_of_transformers() -> None:
    """Catches another default than transformers' for a key that old checkpoints leave out."""
    config = read(num_key_value_heads=..., rms_norm_eps=..., max_position_embeddings=..., tie_word_embeddings=...)
    assert (config.num_kv_heads, config.head_dim, config.norm_eps) == (4, 8, 1e-6)
    assert (config.max_context, config.tie_embeddings, config.rope) == (2048, False, RopeConfig())


@pytest.mark.parametrize("absent", [..., None])
@pytest.mark.parametrize("heads", [6, 64])
@pytest.mark.parametrize("base", [CONFIG, QWEN3_CONFIG])
def test_each_architecture_has_its_own_defaults(base: dict[str, Any], heads: int, absent: Any) -> None:
    """Catches Llama's defaults (heads of hidden / heads, no grouped queries) in a model whose class has others."""
    from transformers import AutoConfig

    optional = ("head_dim", "num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings")
    fields = base | {"hidden_size": 384, "num_attention_heads": heads, **dict.fromkeys((*optional, "rope_theta"), ...)}
    given = {key: value for key, value in fields.items() if value is not ...}
    nullable: dict[str, Any] = {"num_key_value_heads": absent} if absent is None else {}
    theirs = AutoConfig.for_model(**given, **nullable)
    if heads % theirs.num_key_value_heads:
        with pytest.raises(ModelError, match="no multiple of num_kv_heads"):
            read(given, **nullable)
        return
    ours = read(given, **nullable)
    assert (ours.head_dim, ours.num_kv_heads) == (theirs.head_dim, theirs.num_key_value_heads)
    assert (ours.norm_eps, ours.max_context) == (theirs.rms_norm_eps, theirs.max_position_embeddings)
    assert ours.tie_embeddings == theirs.tie_word_embeddings
    assert ours.rope.theta == theirs.rope_parameters["rope_theta"]


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
    frequencies = rotary_table(ours, 64).frequencies
    assert frequencies.shape == (32,)
    np.testing.assert_allclose(frequencies, theirs.inv_freq.numpy(), rtol=1e-6)


@pytest.mark.parametrize("base", [CONFIG, QWEN3_CONFIG])
@pytest.mark.parametrize("rope", [{}, {"rope_scaling": LLAMA3}, {"rope_scaling": {"type": "linear", "factor": 2}}])
def test_written_config_reads_back(base: dict[str, Any], rope: dict[str, Any]) -> None:
    """Catches a field that to_hf forgets, and a file that transformers understands differently."""
    from transformers import AutoConfig

    config = read(base, **rope, rope_theta=1e5, head_dim=16)
    written = to_hf(config, 0, 1)
    assert from_hf(written, "again") == config
    theirs = AutoConfig.for_model(**written)
    assert theirs.architectures == base["architectures"]
    assert theirs.head_dim == 16
    assert theirs.rope_parameters["rope_theta"] == 1e5
    assert theirs.rope_parameters["rope_type"] == config.rope.kind


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": ["llama"]}, "model_type"),
        ({"model_type": "falcon"}, "model_type 'falcon'.*preftree runs model_type 'llama'"),
        ({"model_type": ...}, "model_type None"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures"),
        ({"architectures": 7}, "architectures"),
        ({"model_type": "own", "auto_map": {"AutoModel": "evil.Model"}}, "'own' is not supported; auto_map asks"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"hidden_activation": "gelu_pytorch_tanh"}, "hidden_activation 'gelu_pytorch_tanh' contradicts hidden_act"),
        ({"attention_bias": "yes"}, "attention_bias"),
        ({"sliding_window": 4096}, "sliding_window 4096 is not supported; preftree runs Llama models without"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ({"num_local_experts": 8}, "num_local_experts"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types .* Llama, whose layers are all alike"),
        ({"quantization_config": {"quant_method": "hqq"}}, "quantization_config has the quant_method 'hqq'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 0.5}}, "rope factor"),
        ({"rope_scaling": {"type": "proportional", "factor": 2}}, "rope type 'proportional'"),
        ({"rope_scaling": {"type": "linear", "factor": 2, "mrope_section": [2, 2]}}, "'mrope_section'"),
        ({"rope_scaling": {"type": "yarn", "factor": None, "mscale": "a", "mscale_all_dim": 1}}, "rope mscale"),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "truncate": 0}}, "rope truncate"),
        ({"rope_scaling": {"type": "longrope", "short_factor": 1, "long_factor": [1.0]}}, "short_factor is 1"),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}, "has 1 numbers, but 4"),
        (
            {"rope_scaling": LLAMA3, "original_max_position_embeddings": 32},
            "original_max_position_embeddings is 32, but 64",
        ),
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
    assert_refused(CONFIG, changes, named)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"layer_types": ["full_attention", "sliding_attention"]}, "layer_types .*full_attention"),
        ({"layer_types": ["full_attention"] * 2 + ["chunked_attention"]}, "layer_types .*full_attention"),
        ({"layer_types": ["full_attention"] * 2 + ["sliding_attention"]}, "but there is no sliding_window"),
        ({"use_sliding_window": True, "sliding_window": 0}, "sliding_window is 0"),
        ({"use_sliding_window": "no"}, "use_sliding_window is 'no'"),
        (
            {"rope_scaling": {"type": "yarn", "factor": None, "original_max_position_embeddings": "x"}},
            "rope original_max_position_embeddings is 'x'",
        ),
        ({"use_sliding_window": True, "sliding_window": 64, "max_window_layers": "all"}, "max_window_layers"),
        ({"layer_types": 7}, "layer_types 7"),
        ({"model_type": "llama"}, r"architectures \['Qwen3ForCausalLM'\]"),
        ({"model_type": "qwen3_next"}, "model_type 'qwen3_next'.*'llama' .*, 'qwen3' "),
        ({"architectures": ["Qwen3ForSequenceClassification"]}, "architectures"),
        ({"head_dim": 2048}, "head_dim"),
        ({"rms_norm_eps": -1}, "rms_norm_eps"),
    ],
)
def test_qwen3_refused_in_one_line(changes: dict[str, Any], named: str) -> None:
    """Catches a long-context or sliding-window Qwen3 that would load and compute something else."""
    assert_refused(QWEN3_CONFIG, changes, named)


@pytest.mark.parametrize("layers", [7, [1], [1, 2], ["1", "1"], [[], []]])
def test_layers_without_rotary_embedding_refused_in_one_line(layers: Any) -> None:
    """Catches layers that rotate where they should not, or a traceback."""
    smollm3 = CONFIG | {"model_type": "smollm3", "architectures": ["SmolLM3ForCausalLM"]}
    assert_refused(smollm3, {"no_rope_layers": layers}, "no_rope_layers .* is not a list of a 1")
    assert_refused(smollm3, {"no_rope_layer_interval": 0}, "no_rope_layer_interval is 0")


EXAONE4 = CONFIG | {"model_type": "exaone4", "architectures": ["Exaone4ForCausalLM"], "num_hidden_layers": 6}


def test_windows_by_a_string() -> None:
    """Catches a pattern that does not repeat, or that gives the last layer a window, or full layers a rotation."""
    config = read(EXAONE4, sliding_window=16, sliding_window_pattern="LG", num_hidden_layers=5)
    assert config.windows == (16, None, 16, None, None)
    assert config.unrotated == {1, 3, 4}
    assert read(EXAONE4, sliding_window=16, sliding_window_pattern=2).windows == (16, None, 16, None, 16, None)
    everywhere = {"layer_types": ["full_attention"] * 6}
    assert read(EXAONE4, sliding_window=None, **everywhere).unrotated == set()
    assert read(EXAONE4, sliding_window=16, **everywhere).unrotated == set(range(6))


@pytest.mark.parametrize("pattern", ["", "LLX", 0, None, ["L"], True])
def test_windows_by_a_broken_pattern_refused_in_one_line(pattern: Any) -> None:
    """Catches a traceback of a division by zero, or a pattern that is taken for another."""
    assert_refused(EXAONE4, {"sliding_window": 16, "sliding_window_pattern": pattern}, "sliding_window_pattern ")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"alpha": "a"}, "rope alpha is 'a'"),
        ({"alpha": -1}, "rope alpha is -1"),
        ({"alpha": float("nan")}, "rope alpha is nan"),
        ({"alpha": 1e6, "rope_theta": 1e12}, "rope_theta is .* at most 1e.12"),
        ({"rope_theta": "a"}, "rope_theta is 'a'"),
        ({"alpha": 0}, "rope type 'dynamic' needs the field factor"),
        ({"type": "yarn", "factor": 2.0}, "rope type 'yarn' is not supported"),
    ],
)
def test_a_stretched_base_refused_in_one_line(changes: dict[str, Any], named: str) -> None:
    """Catches an alpha that is absurd, or that another family would leave out."""
    scaling = {"type": "dynamic", "alpha": 1000.0}
    hunyuan = CONFIG | {"model_type": "hunyuan_v1_dense", "architectures": ["HunYuanDenseV1ForCausalLM"]}
    config = read(hunyuan, rope_scaling=scaling, use_qk_norm=True)
    assert config.rope.kind == "default"
    assert config.rope.theta == pytest.approx(1e4 * 1000 ** (config.head_dim / (config.head_dim - 2)))
    assert_refused(hunyuan, {"rope_scaling": scaling | changes}, named)
    assert_refused(CONFIG, {"rope_scaling": scaling}, "'alpha', which preftree does not know")
    assert_refused(hunyuan | {"head_dim": 2}, {"rope_scaling": scaling}, "rope alpha needs a head_dim of more than two")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_qk_norm": True}, "use_qk_norm True is not supported; preftree runs Cohere 2 models without it"),
        ({"layer_norm_eps": 0}, "layer_norm_eps is 0"),
        ({"logit_scale": 0}, "logit_scale is 0"),
        ({"sliding_window": None}, "sliding_window is null, but some layers need one"),
    ],
)
def test_cohere_refused_in_one_line(changes: dict[str, Any], named: str) -> None:
    """Catches norms of heads that are left out, and a note of published models that is taken for a difference."""
    cohere = CONFIG | {"model_type": "cohere2", "architectures": ["Cohere2ForCausalLM"]}
    assert read(cohere, position_embedding_type="rope_gptj", layer_norm_eps=1e-3, rms_norm_eps=...).norm_eps == 1e-3
    assert_refused(cohere, changes, named)


def test_old_name_of_an_activation() -> None:
    """Catches a first release of Gemma that is refused for contradicting itself, and one that really does."""
    gemma = CONFIG | {"model_type": "gemma", "architectures": ["GemmaForCausalLM"], "hidden_act": "gelu"}
    assert read(gemma, hidden_activation="gelu_pytorch_tanh").activation == "gelu_tanh"
    assert_refused(gemma, {"hidden_activation": "silu"}, "hidden_activation 'silu' contradicts hidden_act 'gelu'")


@pytest.mark.parametrize("field", ARCHITECTURES["granite"].multipliers)
@pytest.mark.parametrize("value", [0, -1.0, "1", float("nan"), 1e9])
def test_absurd_multipliers_refused_in_one_line(field: str, value: Any) -> None:
    """Catches a multiplier that is passed on unseen, and one that another family would leave out."""
    granite = CONFIG | {"model_type": "granite", "architectures": ["GraniteForCausalLM"]}
    assert_refused(granite, {field: value}, f"{field} is .*, which is not a number above 0")
    assert_refused(CONFIG, {field: 0.5}, f"{field} 0.5 is not supported; preftree runs Llama models without")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"llama_4_scaling_beta": "a"}, "llama_4_scaling_beta is 'a'"),
        ({"llama_4_scaling_beta": -1}, "llama_4_scaling_beta is -1"),
        ({"rope_type": "linear"}, "rope type 'linear' is not supported"),
    ],
)
def test_scaled_queries_refused_in_one_line(changes: dict[str, Any], named: str) -> None:
    """Catches a growth of queries that is absurd, or that another family would leave out."""
    yarn = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64, "llama_4_scaling_beta": 0.1}
    ministral = CONFIG | {"model_type": "ministral3", "architectures": ["Ministral3ForCausalLM"]}
    assert read(ministral, rope_parameters=yarn).rope.query_growth == 0.1
    assert_refused(ministral, {"rope_parameters": yarn | changes}, named)
    assert_refused(CONFIG, {"rope_parameters": yarn}, "'llama_4_scaling_beta', which preftree does not know")


def assert_refused(base: dict[str, Any], changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError) as error:
        read(base, **changes)
    assert str(error.value).startswith("DIR/config.json: ")
    assert "\n" not in str(error.value)
    assert re.search(named, str(error.value))


def test_harmless_keys_pass() -> None:
    """Catches a refusal of keys that change nothing, found in published Llama checkpoints."""
    read(pretraining_tp=2, use_cache=True, initializer_range=0.02, rope_scaling=None, mlp_bias=False)
    read(QWEN3_CONFIG, layer_types=["full_attention"] * 3, sliding_window=4096, rope_scaling=None)


def test_a_changed_config_is_validated_too() -> None:
    """Catches validation that only from_hf does."""
    with pytest.raises(ModelError, match="architecture"):
        replace(read(), architecture="gpt2")
    with pytest.raises(ModelError, match="mlp_bias is not supported in a Qwen3 model"):
        replace(read(QWEN3_CONFIG), mlp_bias=True)
    with pytest.raises(ModelError, match="there are windows for 1 layers of 2"):
        replace(read(), windows=(16,))


def test_broken_json_names_the_file(model_dir: Path, edit_json: Callable[..., None]) -> None:
    """Catches a traceback of the json module for a broken, doubled or absurdly nested config."""
    from preftree.engine.files import read_json

    path = model_dir / "config.json"
    for text in ('{"a": 1, "a": 2}', "{", "[1]", "[" * 100_000, "", "\ud800"):
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(ModelError, match=re.escape(str(path))) as error:
            read_json(path)
        assert "\n" not in str(error.value)
