"""Mixtures of experts in every type: near float32, bit by bit, and in how much memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preftree import Engine, ModelError
from preftree.engine.config.hf_config import from_hf
from preftree.engine.device import choose_target
from preftree.engine.weights.names import num_linear_parameters, num_parameters
from preftree.kernels import isa
from tests.engine.test_architectures import prompts_of
from tests.models import GPT_OSS_CONFIG, SMALL_CONFIG, write_model

LABELS = [[33], [34, 35], [34, 36]]
MIXTURES: dict[str, dict[str, Any]] = {
    "qwen2_moe": {
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 64,
        "mlp_only_layers": [1],
    },
    "gpt_oss": GPT_OSS_CONFIG,
}
# Mean error of a log-probability, about five times what is found.
TYPES = {"float32": 0.0, "bfloat16": 0.003, "int8": 0.005}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=MIXTURES, scope="module")
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / request.param, SMALL_CONFIG | MIXTURES[request.param])


@pytest.mark.parametrize("dtype", TYPES)
def test_bits_in_any_company(directory: Path, dtype: str) -> None:
    """Catches experts whose rows see each other, and a type in which router or shared expert lose digits."""
    if dtype == "int8" and not isa.int8_runs():
        pytest.skip(f"int8: {isa.int8_obstacle()}")
    prompts = prompts_of(12)
    labels = [LABELS] * len(prompts)
    with Engine.load(str(directory), dtype="float32") as engine:
        exact = engine.score(prompts, labels).logprob
    with Engine.load(str(directory), dtype=dtype) as engine:
        found = engine.score(prompts, labels, prefix_cache=False).logprob
        assert np.abs(found - exact).mean() <= TYPES[dtype]
        assert np.array_equal(engine.score(prompts[::-1], labels).logprob[::-1], found)
        assert np.array_equal(engine.score(prompts[3:4], labels[:1]).logprob, found[3:4])
        engine.batch_tokens = 130
        assert np.array_equal(engine.score(prompts, labels).logprob, found)


def test_memory_of_a_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a shared expert that nothing counts, and routers that are taken for 8 bits wide."""
    monkeypatch.setattr(isa, "int8_obstacle", lambda: None)
    config = from_hf(SMALL_CONFIG | MIXTURES["qwen2_moe"], "test")
    hidden, kv = 96, 2 * 2 * 16
    attention = 2 * hidden * hidden + hidden * kv
    mixtures, dense = 2 * 3 * hidden * (6 * 32 + 64), 3 * hidden * 160
    assert num_linear_parameters(config) == 3 * attention + mixtures + dense
    routers, biases, norms, vocabulary = 2 * hidden * (6 + 1), 3 * (hidden + kv), 7 * hidden, 2 * 261 * hidden
    assert num_parameters(config) == num_linear_parameters(config) + routers + biases + norms + vocabulary
    memory = choose_target(config, "cpu", "int8", None).memory
    saved = 3 * num_linear_parameters(config)
    assert memory.weight_bytes(config) == 4 * num_parameters(config) - saved
    wide = from_hf(SMALL_CONFIG | MIXTURES["qwen2_moe"] | {"shared_expert_intermediate_size": 640}, "test")
    assert memory.batch_bytes(wide, 256, 4, 100) > memory.batch_bytes(config, 256, 4, 100)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"shared_expert_intermediate_size": 0}, "shared_expert_intermediate_size is 0"),
        ({"shared_expert_intermediate_size": 1e9}, "shared_expert_intermediate_size is 1000000000.0"),
        ({"qkv_bias": "yes"}, "qkv_bias is 'yes', neither true nor false"),
        ({"attention_bias": True}, "attention_bias True is not supported"),
        ({"n_routed_experts": 6}, "n_routed_experts 6 is not supported"),
        ({"num_local_experts": 7}, "num_experts and num_local_experts differ"),
    ],
)
def test_what_contradicts_a_mixture_is_refused(changes: dict[str, Any], match: str) -> None:
    """Catches a field that is taken for another's, and sizes that become an allocation."""
    with pytest.raises(ModelError, match=match):
        from_hf(SMALL_CONFIG | MIXTURES["qwen2_moe"] | changes, "test")
