"""Every family of models against its own class in transformers, and bit by bit.

A row of CASES is a small random model as transformers itself writes it. Contexts are longer than its sliding window
and than the length its rotary embedding was made for.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.hugging_face import to_hf
from preftree import Engine
from preftree.engine.config.architectures import ARCHITECTURES
from preftree.engine.config.hf_config import NEUTRAL, REQUIRED, from_hf
from preftree.engine.weights.names import expected_tensors, num_parameters
from tests.models import CONTROL, write_tokenizer

VOCABULARY = len(CONTROL) + 258
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
WINDOW = 37
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e4}


GEMMA4 = {"num_hidden_layers": 4, "head_dim": 16, "sliding_window": WINDOW, "hidden_size_per_layer_input": 0}


def rope(**parameters: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": 1e4} | parameters}


CASES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama"},
    "llama, biases": {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    "llama, gelu": {"model_type": "llama", "hidden_act": "gelu_pytorch_tanh"},
    "llama, linear": {"model_type": "llama", **rope(rope_type="linear", factor=4.0)},
    "llama, llama3": {"model_type": "llama", **rope(**LLAMA3, original_max_position_embeddings=64)},
    "llama, yarn": {"model_type": "llama", **rope(**YARN)},
    "llama, yarn with mscale": {"model_type": "llama", **rope(**YARN, mscale=0.7, mscale_all_dim=1.3, truncate=False)},
    "smollm3": {"model_type": "smollm3", "no_rope_layers": [0, 1, 0, 1]},
    "smollm3, windows": {
        "model_type": "smollm3",
        "no_rope_layer_interval": 2,
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        **rope(**YARN),
    },
    "mistral": {"model_type": "mistral", "sliding_window": WINDOW, "head_dim": 16},
    "ministral3": {"model_type": "ministral3", "head_dim": 16, **rope(**YARN, llama_4_scaling_beta=0.7)},
    "ministral3, windows": {
        "model_type": "ministral3",
        "head_dim": 16,
        "sliding_window": WINDOW,
        **rope(**YARN, mscale=0.7, mscale_all_dim=1.3, llama_4_scaling_beta=0.1),
    },
    "mistral without windows": {"model_type": "mistral", "sliding_window": None},
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen2, windows": {
        "model_type": "qwen2",
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 1,
    },
    "llama, dynamic": {
        "model_type": "llama",
        **rope(rope_type="dynamic", factor=4.0),
        "max_position_embeddings": 64,
        "head_dim": 12,
    },
    "llama, longrope": {
        "model_type": "llama",
        **rope(
            rope_type="longrope",
            short_factor=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
            long_factor=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            original_max_position_embeddings=64,
        ),
    },
    "seed_oss": {"model_type": "seed_oss", "head_dim": 16},
    "seed_oss, other biases": {
        "model_type": "seed_oss",
        "head_dim": 16,
        "attention_bias": False,
        "attention_out_bias": True,
        "mlp_bias": True,
    },
    "phi3": {"model_type": "phi3", "sliding_window": WINDOW},
    "phi3, longrope and partial": {
        "model_type": "phi3",
        "hidden_size": 64,
        "original_max_position_embeddings": 64,
        **rope(
            rope_type="longrope",
            short_factor=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
            long_factor=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            partial_rotary_factor=0.75,
        ),
    },
    "glm": {"model_type": "glm", "hidden_size": 64, "head_dim": 24, "tie_word_embeddings": True},
    "glm4": {"model_type": "glm4", "hidden_size": 64, "head_dim": 24},
    "glm4, all rotate, yarn": {
        "model_type": "glm4",
        "head_dim": 16,
        "attention_bias": False,
        **rope(**YARN, partial_rotary_factor=1.0),
    },
    "glm4_moe": {
        "model_type": "glm4_moe",
        "head_dim": 16,
        "n_routed_experts": 8,
        "num_experts_per_tok": 3,
        "n_group": 4,
        "topk_group": 2,
        "moe_intermediate_size": 24,
        "routed_scaling_factor": 1.5,
        "use_qk_norm": True,
        **rope(**YARN, partial_rotary_factor=0.5),
    },
    "glm4_moe, not normalised, biases": {
        "model_type": "glm4_moe",
        "head_dim": 24,
        "n_routed_experts": 6,
        "num_experts_per_tok": 2,
        "n_shared_experts": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 0,
        "norm_topk_prob": False,
        "attention_bias": True,
    },
    "deepseek_v3": {
        "model_type": "deepseek_v3",
        "num_key_value_heads": 4,
        "q_lora_rank": 24,
        "kv_lora_rank": 20,
        "qk_nope_head_dim": 14,
        "qk_rope_head_dim": 8,
        "v_head_dim": 12,
        "n_routed_experts": 8,
        "num_experts_per_tok": 3,
        "n_group": 4,
        "topk_group": 2,
        "moe_intermediate_size": 24,
        "first_k_dense_replace": 1,
        **rope(**YARN, mscale=0.7, mscale_all_dim=1.3),
    },
    "deepseek_v3, plain queries, halves, biases": {
        "model_type": "deepseek_v3",
        "num_key_value_heads": 4,
        "q_lora_rank": None,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 8,
        "v_head_dim": 24,
        "rope_interleave": False,
        "attention_bias": True,
        "n_routed_experts": 6,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 16,
        "n_shared_experts": 2,
        "first_k_dense_replace": 2,
        "rms_norm_eps": 1e-3,
    },
    "ernie4_5": {"model_type": "ernie4_5", "head_dim": 16, **rope(**YARN)},
    "gemma": {"model_type": "gemma", "head_dim": 16, "attention_bias": True},
    "gemma, old name of its activation": {"model_type": "gemma", "hidden_act": "gelu", "head_dim": 16},
    "gemma2": {
        "model_type": "gemma2",
        "head_dim": 16,
        "sliding_window": WINDOW,
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
    },
    "gemma2, untied without caps": {
        "model_type": "gemma2",
        "head_dim": 16,
        "sliding_window": WINDOW,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "attention_bias": True,
        "tie_word_embeddings": False,
    },
    "gemma3": {
        "model_type": "gemma3_text",
        "head_dim": 16,
        "sliding_window": WINDOW,
        "sliding_window_pattern": 2,
        "query_pre_attn_scalar": 12,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "gemma3, capped": {
        "model_type": "gemma3_text",
        "head_dim": 16,
        "sliding_window": WINDOW,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "final_logit_softcapping": 3.0,
    },
    "gemma4": {
        "model_type": "gemma4_text",
        **GEMMA4,
        "global_head_dim": 24,
        "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "final_logit_softcapping": 3.0,
    },
    "gemma4, smaller heads, biases, everything rotates": {
        "model_type": "gemma4_text",
        **GEMMA4,
        "global_head_dim": 8,
        "attention_bias": True,
        "layer_types": ["full_attention", "full_attention", "sliding_attention", "sliding_attention"],
        "tie_word_embeddings": False,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "rope_theta": 5e5, "factor": 4.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 3e3},
        },
    },
    "gemma4, an embedding for each layer, shared keys and values": {
        "model_type": "gemma4_text",
        **GEMMA4,
        "num_hidden_layers": 6,
        "hidden_size_per_layer_input": 12,
        "vocab_size_per_layer_input": VOCABULARY + 3,
        "global_head_dim": 24,
        "num_kv_shared_layers": 3,
        "use_double_wide_mlp": True,
        "layer_types": [*("sliding_attention", "full_attention") * 2, *("full_attention", "full_attention")],
    },
    "olmo2": {"model_type": "olmo2", "num_key_value_heads": 4},
    "olmo2, grouped queries": {"model_type": "olmo2", "rms_norm_eps": 1e-3},
    "olmo3": {
        "model_type": "olmo3",
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_scaling": {name: value for name, value in YARN.items() if name != "rope_theta"},
        "rope_theta": 5e5,
    },
    "granite": {
        "model_type": "granite",
        "attention_multiplier": 0.4,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.22,
        "logits_scaling": 1.7,
        **rope(**YARN),
    },
    "granite, tied": {"model_type": "granite", "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "exaone4": {
        "model_type": "exaone4",
        "head_dim": 16,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        **rope(**LLAMA3, original_max_position_embeddings=64),
    },
    "exaone4 without windows": {
        "model_type": "exaone4",
        "sliding_window": None,
        "layer_types": ["full_attention"] * 3,
        "tie_word_embeddings": True,
    },
    "hunyuan_v1_dense": {
        "model_type": "hunyuan_v1_dense",
        "head_dim": 16,
        "attention_bias": True,
        **rope(rope_type="dynamic", alpha=50.0, factor=1.0, beta_fast=32, beta_slow=1, mscale=1.0, mscale_all_dim=1.0),
    },
    "hunyuan_v1_dense, dynamic": {
        "model_type": "hunyuan_v1_dense",
        "head_dim": 12,
        "tie_word_embeddings": True,
        **rope(rope_type="dynamic", factor=4.0),
        "max_position_embeddings": 64,
    },
    "cohere": {"model_type": "cohere", "logit_scale": 0.7, "layer_norm_eps": 1e-3, **rope(**YARN)},
    "cohere2": {"model_type": "cohere2", "logit_scale": 0.7, "sliding_window": WINDOW, "sliding_window_pattern": 2},
    "cohere2, biases": {
        "model_type": "cohere2",
        "sliding_window": WINDOW,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "attention_bias": True,
        "tie_word_embeddings": False,
        "logit_scale": 1.5,
        **rope(**LLAMA3, original_max_position_embeddings=64),
    },
    "mixtral": {"model_type": "mixtral", "num_local_experts": 5, "sliding_window": WINDOW},
    "qwen2_moe": {
        "model_type": "qwen2_moe",
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 40,
        "mlp_only_layers": [1],
    },
    "qwen2_moe, normalised, windows": {
        "model_type": "qwen2_moe",
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 24,
        "norm_topk_prob": True,
        "decoder_sparse_step": 2,
        "qkv_bias": False,
        "use_sliding_window": True,
        "sliding_window": WINDOW,
        "max_window_layers": 2,
    },
    "gpt_oss": {
        "model_type": "gpt_oss",
        "head_dim": 16,
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
        "sliding_window": WINDOW,
        **rope(**YARN, truncate=False),
    },
    "gpt_oss, without biases in attention": {
        "model_type": "gpt_oss",
        "head_dim": 16,
        "num_local_experts": 6,
        "num_experts_per_tok": 3,
        "sliding_window": WINDOW,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "attention_bias": False,
    },
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        "num_local_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 24,
        "mlp_only_layers": [1],
        "head_dim": 16,
    },
    "qwen3_moe, normalised": {
        "model_type": "qwen3_moe",
        "num_local_experts": 6,
        "norm_topk_prob": True,
        "decoder_sparse_step": 2,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "use_sliding_window": True,
        "sliding_window": WINDOW,
    },
    "qwen3": {"model_type": "qwen3", "head_dim": 24, "attention_bias": True},
}
NORM_WEIGHTS = ("norm.weight", "layernorm.weight")


def save(directory: Path, settings: dict[str, Any], head: str = "AutoModelForCausalLM") -> Any:
    """Write a random model of the real class; returns it in float64."""
    transformers = pytest.importorskip("transformers")
    auto = getattr(transformers, head)
    config = transformers.AutoConfig.for_model(**json.loads(json.dumps(SIZES | settings)))
    model = auto.from_config(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = 0.15 * torch.randn(parameter.shape, generator=generator)
            # Norms far from one, and uneven: a norm that is forgotten or misplaced shows.
            # Sinks that take much in some heads, and gates beyond their limit.
            noise *= 15 if name.endswith(("sinks", "gate_up_proj_bias")) else 1
            parameter.copy_(noise * 3 + 1 if name.endswith(NORM_WEIGHTS) else noise)
        for name, buffer in sorted(model.named_buffers()):
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(0.15 * torch.randn(buffer.shape, generator=generator))
            if name.endswith("layer_scalar"):
                buffer.fill_(0.5 + int(name.split(".")[-2]) / 4)
    model.save_pretrained(directory)
    write_tokenizer(directory)
    plain = {"attn_implementation": "eager", "experts_implementation": "eager"}
    return auto.from_pretrained(directory, dtype=torch.float64, **plain).eval()


def prompts_of(count: int, longest: int = 200) -> list[list[int]]:
    """A trie of short and long prompts, branching on both sides of every window and original length."""
    generator = np.random.default_rng(0)
    trunk = generator.integers(3, VOCABULARY, longest).tolist()
    cuts = generator.integers(5, longest - 30, count - 2)
    branches = [trunk[:cut] + generator.integers(3, VOCABULARY, int(cut) % 29 + 1).tolist() for cut in cuts]
    return [trunk, trunk[:20], *branches]


LABELS = [[33], [34, 35], [34, 36]]


def exact_logprobs(model: Any, prompt: list[int]) -> list[float]:
    """Of LABELS after a prompt, from one pass of transformers over the prompt and 34."""
    with torch.inference_mode():
        last, forced = model(torch.tensor([[*prompt, 34]])).logits[0, -2:].log_softmax(-1)
    return [last[33].item(), (last[34] + forced[35]).item(), (last[34] + forced[36]).item()]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("models")
    return directory, save(directory, CASES[request.param])


def test_equals_transformers_and_itself(case: tuple[Path, Any]) -> None:
    """Log-probabilities to 1e-4; and a prompt alone, in small batches or with a warm prefix cache has the same bits."""
    directory, model = case
    prompts = prompts_of(5)
    labels = [LABELS] * len(prompts)
    engine = Engine.load(str(directory))
    scores = engine.score(prompts, labels, prefix_cache=False).logprob
    expected = np.array([exact_logprobs(model, prompt) for prompt in prompts])
    assert expected.std(0).min() > 0.1, "the prompts have different answers"
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    for index in (0, 4):
        alone = engine.score(prompts[index : index + 1], [LABELS], prefix_cache=False).logprob
        assert np.array_equal(alone[0], scores[index]), f"prompt {index} alone"
    engine.batch_tokens = 150
    assert np.array_equal(engine.score(prompts[2:], labels[2:]).logprob, scores[2:]), "small batches, a prefix cache"


# Fields of transformers' classes that change nothing in a forward pass without labels, gradients or a vocabulary's ids.
HARMLESS = {
    *(
        "bos_token_id",
        "eos_token_id",
        "eod_token_id",
        "pad_token_id",
        "initializer_range",
        "use_cache",
        "pretraining_tp",
    ),
    *("attention_dropout", "embd_pdrop", "resid_pdrop", "residual_dropout", "output_router_logits"),
    *("router_aux_loss_coef", "router_jitter_noise", "_sliding_window_pattern", "num_mtp_layers"),
    *("num_nextn_predict_layers", "qk_head_dim"),
}
READ_BY_ALL = {
    *("head_dim", "rms_norm_eps", "max_position_embeddings", "num_key_value_heads", "tie_word_embeddings"),
    *("hidden_act", "rope_parameters", "layer_types", "max_window_layers", "original_max_position_embeddings"),
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_field_of_the_class_is_known(kind: str) -> None:
    """Catches a field of the configuration class that is neither read, nor refused, nor known to change nothing."""
    transformers = pytest.importorskip("transformers")
    fields = set(transformers.AutoConfig.for_model(kind).to_dict()) - set(transformers.PretrainedConfig().to_dict())
    known = READ_BY_ALL | HARMLESS | set(REQUIRED) | ARCHITECTURES[kind].reads | set(NEUTRAL)
    assert not fields - known


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_defaults_are_those_of_the_class(kind: str) -> None:
    """Catches another default than transformers' for a field that a config.json leaves out."""
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 300, "hidden_size": 384, "intermediate_size": 64, "num_hidden_layers": 30}
    given = {"model_type": kind, "num_attention_heads": 32, **sizes}
    theirs = transformers.AutoConfig.for_model(**given)
    assert from_hf(given, "ours") == from_hf(theirs.to_dict(), "theirs")


@pytest.mark.parametrize("name", CASES)
def test_config_is_read_and_written_as_transformers_does(name: str) -> None:
    """Catches a field that `to_hf` forgets, and a tensor that is forgotten, misnamed or counted wrongly."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoConfig.for_model(**json.loads(json.dumps(SIZES | CASES[name])))
    config = from_hf(theirs.to_dict(), "theirs")
    written = to_hf(config, 0, 1)
    assert from_hf(written, "again") == config
    assert from_hf(transformers.AutoConfig.for_model(**written).to_dict(), "theirs again") == config
    assert num_parameters(config) == sum(int(np.prod(shape)) for shape in expected_tensors(config).values())
