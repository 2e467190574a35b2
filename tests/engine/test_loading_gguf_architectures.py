"""Every family that is read from GGUF gives the bits of the same weights in a Hugging Face directory."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.config.architectures import ARCHITECTURES
from preftree.engine.errors import ModelError
from preftree.engine.gguf.architectures import BY_FIELD, FAMILIES
from tests.engine.gguf_files import write_gguf
from tests.engine.test_loading_gguf_models import CONFIGS, scores
from tests.models import GPT_OSS_CONFIG, SMALL_CONFIG, write_model

# Windows and original contexts that the longest prompt exceeds.
PROMPTS = [[7, 9, 30, 31, 200, 7, 9], [7, 9, 30, 31, 90, 4], [7, *range(20, 90)]]
PLAIN = {key: value for key, value in SMALL_CONFIG.items() if key != "architectures"}
GEMMA = PLAIN | {"head_dim": 24, "tie_word_embeddings": True, "rms_norm_eps": 1e-6, "sliding_window": 9}
GEMMA.pop("hidden_act")
COHERE = PLAIN | {"rope_theta": 5e4, "layer_norm_eps": 1e-5, "logit_scale": 0.25, "tie_word_embeddings": True}
COHERE.pop("rms_norm_eps")
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.08, 1.1, 1.3, 1.4, 1.5],
    "long_factor": [1.0, 2.1, 3.0, 4.7, 5.0, 64.0],
}
CASES: dict[str, dict[str, Any]] = {
    "gemma2": GEMMA
    | {
        "model_type": "gemma2",
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    "gemma2, 27B": GEMMA
    | {"model_type": "gemma2", "num_hidden_layers": 46, "query_pre_attn_scalar": 16, "final_logit_softcapping": 5.0},
    "gemma3": GEMMA
    | {"model_type": "gemma3_text", "num_hidden_layers": 7, "query_pre_attn_scalar": 24, "rope_theta": 1e6},
    "gemma3, long": GEMMA
    | {
        "model_type": "gemma3_text",
        "num_hidden_layers": 7,
        "query_pre_attn_scalar": 24,
        "rope_theta": 1e6,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "phi3": PLAIN | {"model_type": "phi3", "sliding_window": 9},
    "phi3, long and partial": PLAIN
    | {
        "model_type": "phi3",
        "partial_rotary_factor": 0.75,
        "original_max_position_embeddings": 64,
        "rope_scaling": LONG,
    },
    "olmo2": PLAIN | {"model_type": "olmo2", "rope_theta": 5e5},
    "smollm3": PLAIN | {"model_type": "smollm3", "num_hidden_layers": 5, "rope_theta": 2e6},
    "granite": PLAIN
    | {
        "model_type": "granite",
        "attention_multiplier": 0.1,
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22,
        "logits_scaling": 8.0,
    },
    "seed_oss": PLAIN | {"model_type": "seed_oss", "head_dim": 24, "attention_bias": True},
    "seed_oss, biases everywhere": PLAIN
    | {"model_type": "seed_oss", "head_dim": 24, "attention_bias": True, "attention_out_bias": True},
    "glm4": PLAIN | {"model_type": "glm4", "head_dim": 16, "attention_bias": True, "partial_rotary_factor": 0.5},
    "mixtral": PLAIN | {"model_type": "mixtral", "rope_theta": 1e6, "num_local_experts": 5, "num_experts_per_tok": 2},
    "qwen2moe": PLAIN
    | {
        "model_type": "qwen2_moe",
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 64,
        "norm_topk_prob": False,
    },
    "gemma": {key: value for key, value in GEMMA.items() if key != "sliding_window"} | {"model_type": "gemma"},
    "ernie4_5": PLAIN | {"model_type": "ernie4_5", "head_dim": 24, "rope_theta": 5e5},
    "cohere": COHERE | {"model_type": "cohere"},
    "cohere2": COHERE | {"model_type": "cohere2", "sliding_window": 9, "num_hidden_layers": 5},
    "exaone4": PLAIN
    | {
        "model_type": "exaone4",
        "num_hidden_layers": 4,
        "sliding_window": 9,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    },
    "exaone4, all layers alike": PLAIN
    | {"model_type": "exaone4", "sliding_window": None, "layer_types": ["full_attention"] * PLAIN["num_hidden_layers"]},
    "hunyuan-dense": PLAIN | {"model_type": "hunyuan_v1_dense", "head_dim": 24, "rope_theta": 1.1e7},
    "olmo3": PLAIN
    | {
        "model_type": "olmo3",
        "num_hidden_layers": 5,
        "sliding_window": 9,
        "rope_theta": 5e5,
        "layer_types": [*["sliding_attention"] * 3, "full_attention", "full_attention"],
    },
    "mistral3": PLAIN | {"model_type": "mistral", "sliding_window": None},
    "mistral3, Ministral 3": {key: value for key, value in PLAIN.items() if key != "rope_theta"}
    | {
        "model_type": "ministral3",
        "head_dim": 24,
        "rope_scaling": {
            "rope_type": "yarn",
            "rope_theta": 1e6,
            "factor": 8.0,
            "original_max_position_embeddings": 32,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
    },
    "gpt-oss": {key: value for key, value in GPT_OSS_CONFIG.items() if key != "rope_scaling"} | {"sliding_window": 9},
    "gpt-oss, yarn": GPT_OSS_CONFIG
    | {
        "sliding_window": 9,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 64,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
        },
    },
    "qwen3moe": PLAIN
    | {
        "model_type": "qwen3_moe",
        "head_dim": 24,
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "norm_topk_prob": True,
    },
}


def both(folder: Path, case: str, changes: dict[str, Any] | None = None) -> tuple[Path, Path]:
    """The model of a case as a directory and as a GGUF file. changes: metadata of the file that says something else."""
    config = CASES[case]
    more: dict[str, Any] = {}
    directory = write_model(folder / "hf", config)
    scaling = config.get("rope_scaling", {})
    tensors: dict[str, np.ndarray] = {}
    if scaling.get("rope_type") == "linear":
        more |= {"rope.scaling.type": "linear", "rope.scaling.factor": scaling["factor"]}
    if scaling.get("rope_type") == "yarn":
        more |= {
            "rope.freq_base": scaling.get("rope_theta", config.get("rope_theta")),
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": scaling["factor"],
            "rope.scaling.original_context_length": scaling["original_max_position_embeddings"],
            "rope.scaling.yarn_beta_fast": scaling["beta_fast"],
            "rope.scaling.yarn_beta_slow": scaling["beta_slow"],
        }
        names = {
            "mscale_all_dim": "rope.scaling.yarn_log_multiplier",
            "llama_4_scaling_beta": "attention.temperature_scale",
        }
        more |= {theirs: scaling[ours] for ours, theirs in names.items() if ours in scaling}
    if config.get("sliding_window") and "layer_types" in config:
        more |= {"attention.sliding_window_pattern": [kind == "sliding_attention" for kind in config["layer_types"]]}
    if "partial_rotary_factor" in config:
        heads = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
        more |= {"rope.dimension_count": int(heads * config["partial_rotary_factor"])}
    if scaling.get("rope_type") == "longrope":
        original = config["original_max_position_embeddings"]
        stretch = config["max_position_embeddings"] / original
        more |= {"rope.scaling.attn_factor": math.sqrt(1 + math.log(stretch) / math.log(original))}
        for length in ("short", "long"):
            tensors[f"rope_factors_{length}.weight"] = np.array(scaling[f"{length}_factor"], dtype=np.float32)
    return directory, write_gguf(folder / "model.gguf", directory, more=more | (changes or {}), tensors=tensors)


def test_every_family_has_a_case() -> None:
    """Catches a family that nobody has compared with its directory."""
    tested = {case["model_type"] for case in (CASES | CONFIGS).values()}
    assert tested == {family.model_type for family in (*FAMILIES.values(), *BY_FIELD.values())}
    assert tested <= set(ARCHITECTURES)


@pytest.mark.parametrize("case", CASES)
def test_same_bits_as_the_directory(tmp_path: Path, case: str) -> None:
    """Catches a norm that is shifted twice or loses bits, a swapped tensor, and a window or a scale left out."""
    directory, path = both(tmp_path, case)
    assert open_checkpoint(str(path)).config == open_checkpoint(str(directory)).config
    assert torch.equal(scores(path, PROMPTS), scores(directory, PROMPTS))


def test_experts_in_tensors_of_their_own(tmp_path: Path) -> None:
    """Catches files of old converters that are refused, or whose experts come in another order."""
    directory = write_model(tmp_path / "hf", CASES["mixtral"])
    path = write_gguf(tmp_path / "model.gguf", directory, apart=True)
    assert torch.equal(scores(path, PROMPTS), scores(directory, PROMPTS))


def test_norms_far_from_one_lose_nothing(tmp_path: Path) -> None:
    """Catches 1 + weight that is rounded on the way to weight and back: half of these sums have other bits then."""
    from safetensors.torch import load_file, save_file

    directory = write_model(tmp_path / "hf", CASES["gemma2"])
    tensors = load_file(directory / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for name, tensor in tensors.items():
        if name.endswith("norm.weight"):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3 - 0.95)
    save_file(tensors, str(directory / "model.safetensors"), metadata={"format": "pt"})
    path = write_gguf(tmp_path / "model.gguf", directory)
    assert torch.equal(scores(path, PROMPTS), scores(directory, PROMPTS))


@pytest.mark.parametrize(
    ("case", "more", "named"),
    [
        ("qwen3moe", {"attention.sliding_window": 9}, "qwen3moe.attention.sliding_window is not supported"),
        ("olmo2", {"attention.temperature_scale": 0.1}, "olmo2.attention.temperature_scale is not supported"),
        ("mistral3, Ministral 3", {"rope.scaling.type": "linear"}, "rope type 'linear' is not supported"),
        ("exaone4, all layers alike", {"block_count": 2**31}, "num_hidden_layers is 2147483648"),
        ("olmo2", {"rope.dimension_count": 8}, "olmo2.rope.dimension_count differs from the head size"),
        ("gemma2", {"rope.scaling.attn_factor": 2.0}, "gemma2.rope.scaling.attn_factor is not supported"),
        ("gemma3", {"attention.sliding_window_pattern": 10**6}, "sliding_window_pattern is 1000000"),
        ("phi3", {"rope.dimension_count": 17}, "partial_rotary_factor"),
        ("phi3", {"rope.scaling.attn_factor": 2.0}, "phi3.rope.scaling.attn_factor is not supported"),
        (
            "phi3, long and partial",
            {"rope.scaling.original_context_length": 0},
            "original_context_length is 0, which is no number of tokens",
        ),
        ("qwen3moe", {"expert_shared_count": 1}, "qwen3moe.expert_shared_count is not supported"),
        ("qwen3moe", {"expert_count": 7}, r"'blk.0.ffn_\w+_exps.weight' has shape \(5, .*, but there are 7 experts"),
        ("qwen3moe", {"expert_count": 2**31}, "experts' count"),
    ],
)
def test_other_models_of_the_family_are_refused(tmp_path: Path, case: str, more: dict[str, Any], named: str) -> None:
    """Catches metadata that would change the numbers unseen, and a traceback for what cannot be."""
    _, path = both(tmp_path, case, more)
    with pytest.raises(ModelError, match=named) as error:
        open_checkpoint(str(path))
    assert "\n" not in str(error.value)


def test_factors_of_the_wrong_length_are_refused(tmp_path: Path) -> None:
    """Catches a vector of millions of factors that is made a list of."""
    directory = write_model(tmp_path / "hf", CASES["phi3"])
    more = {"rope.scaling.original_context_length": 64}
    for count, named in ((5, "has 5 numbers"), (5000, "has the impossible shape")):
        tensors = {f"rope_factors_{length}.weight": np.ones(count, np.float32) for length in ("short", "long")}
        with pytest.raises(ModelError, match=named):
            open_checkpoint(str(write_gguf(tmp_path / "a.gguf", directory, more=more, tensors=tensors)))
    path = write_gguf(tmp_path / "a.gguf", directory, tensors={"rope_factors_long.weight": np.ones(8, np.float32)})
    with pytest.raises(ModelError, match="rope factors by tensor"):
        open_checkpoint(str(path))
