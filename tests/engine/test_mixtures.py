"""Mixtures of experts in every type: near float32, bit by bit, and in how much memory."""

from __future__ import annotations

import json
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from preftree import Engine, ModelError
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.config.hf_config import from_hf
from preftree.engine.device import choose_target
from preftree.engine.inspection import model_facts
from preftree.engine.weights.names import num_linear_parameters, num_padding, num_parameters
from preftree.engine.weights.reader import Reader
from preftree.engine.weights.resident import ResidentWeights
from preftree.engine.weights.safetensors import CPU
from preftree.kernels import cpu, isa
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
    "glm4_moe": {
        "architectures": ["Glm4MoeForCausalLM"],
        "model_type": "glm4_moe",
        "n_routed_experts": 8,
        "num_experts_per_tok": 3,
        "n_group": 4,
        "topk_group": 2,
        "n_shared_experts": 2,
        "moe_intermediate_size": 32,
        "use_qk_norm": True,
    },
    "deepseek_v3": {
        "architectures": ["DeepseekV3ForCausalLM"],
        "model_type": "deepseek_v3",
        "q_lora_rank": 64,
        "kv_lora_rank": 32,
        "qk_nope_head_dim": 22,
        "qk_rope_head_dim": 16,
        "v_head_dim": 32,
        "n_routed_experts": 8,
        "num_experts_per_tok": 3,
        "n_group": 4,
        "topk_group": 2,
        "moe_intermediate_size": 32,
        "first_k_dense_replace": 1,
    },
    "gpt_oss": GPT_OSS_CONFIG,
}
# Mean error of a log-probability, about five times what is found.
TYPES = {"float32": 0.0, "bfloat16": 0.003, "int8": 0.008}

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


@pytest.mark.parametrize("threads", [2, 4])
def test_bits_on_several_threads(directory: Path, threads: int) -> None:
    """Catches experts of several threads in one place, rows that are added up before their experts are through, and
    final rows that are counted before they are chosen."""
    prompts = prompts_of(12)
    labels = [LABELS] * len(prompts)
    with Engine.load(str(directory), dtype="float32") as engine:
        expected = engine.score(prompts, labels, prefix_cache=False).logprob
    torch.set_num_threads(threads)  # one again after the test
    with Engine.load(str(directory), dtype="float32") as engine:
        for _ in range(3):
            assert np.array_equal(engine.score(prompts, labels, prefix_cache=False).logprob, expected)


def test_a_sigmoid_router_keeps_its_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches one that is rounded to the model's type, where transformers keeps and multiplies it in float32."""
    checkpoint = open_checkpoint(str(write_model(tmp_path / "model", SMALL_CONFIG | MIXTURES["glm4_moe"])))
    packed: list[torch.Tensor] = []
    monkeypatch.setattr(cpu, "pack_plain", packed.append)
    weights = ResidentWeights(Reader(checkpoint.weights, checkpoint.config, CPU, torch.bfloat16, cpu))
    with weights.layers() as layers:
        layer = next(islice(layers, 1, None))
    router = checkpoint.weights.tensor("model.layers.1.mlp.gate.weight", (8, 96))
    assert torch.equal(packed[0], router)
    assert not torch.equal(router, router.bfloat16().float())
    assert layer.experts is not None
    assert layer.experts.correction is not None
    correction = checkpoint.weights.tensor("model.layers.1.mlp.gate.e_score_correction_bias", (8,))
    assert torch.equal(layer.experts.correction, correction)


@pytest.mark.parametrize("name", ["cpu", "avx512"])
def test_experts_are_quantised_as_all_matrices_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches experts that keep 16 bits in a model of 8, with other labels and more memory than was planned."""
    ops, asked = import_module(f"preftree.kernels.{name}"), []
    for pack in ("pack_gated", "pack_linear"):
        monkeypatch.setattr(ops, pack, lambda weight, bias, quantized: asked.append(quantized))
    layers = [(torch.zeros(64, 64), None)] * 2
    ops.pack_experts(layers, layers, 2, quantized="int8")
    assert asked == ["int8"] * 4


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
    in_fp8 = choose_target(config, "cpu", "fp8", None).memory
    assert in_fp8.weight_bytes(config) == memory.weight_bytes(config) + 3 * 3 * hidden * hidden, "attention's output"
    wide = from_hf(SMALL_CONFIG | MIXTURES["qwen2_moe"] | {"shared_expert_intermediate_size": 640}, "test")
    assert memory.batch_bytes(wide, 256, 4, 100) > memory.batch_bytes(config, 256, 4, 100)


def test_memory_of_latent_attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches padding of heads that nothing counts."""
    checkpoint = open_checkpoint(str(write_model(tmp_path / "model", SMALL_CONFIG | MIXTURES["deepseek_v3"])))
    sizes: list[int] = []

    def pack(weight: torch.Tensor, bias: torch.Tensor | None = None, quantized: None = None) -> None:
        sizes.append(weight.numel())

    for operation in ("pack_linear", "pack_gated"):
        monkeypatch.setattr(cpu, operation, pack)
    ResidentWeights(Reader(checkpoint.weights, checkpoint.config, CPU, torch.float32, cpu))
    config = checkpoint.config
    assert sum(sizes) == num_linear_parameters(config) + num_padding(config)
    assert num_padding(config) > 0
    memory = choose_target(config, "cpu", "float32", None).memory
    assert memory.weight_bytes(config) == 4 * (num_parameters(config) + num_padding(config))
    assert memory.cache_bytes(config, 10) == 10 * 3 * 2 * 6 * 64 * 4


@pytest.mark.parametrize(
    ("name", "changes", "match"),
    [
        ("qwen2_moe", {"shared_expert_intermediate_size": 0}, "shared_expert_intermediate_size is 0"),
        ("qwen2_moe", {"shared_expert_intermediate_size": 1e9}, "shared_expert_intermediate_size is 1000000000.0"),
        ("qwen2_moe", {"qkv_bias": "yes"}, "qkv_bias is 'yes', neither true nor false"),
        ("qwen2_moe", {"attention_bias": True}, "attention_bias True is not supported"),
        ("qwen2_moe", {"n_routed_experts": 6}, "n_routed_experts 6 is not supported"),
        ("qwen2_moe", {"num_local_experts": 7}, "num_experts and num_local_experts differ"),
        ("glm4_moe", {"n_group": 3}, "8 experts do not make 3 groups"),
        ("glm4_moe", {"n_group": 8}, "8 experts do not make 8 groups of at least two"),
        ("glm4_moe", {"topk_group": 5}, "topk_group is 5"),
        ("glm4_moe", {"topk_group": 1}, "there are not 3 experts for a token in 1 groups"),
        ("glm4_moe", {"routed_scaling_factor": float("nan")}, "routed_scaling_factor is nan"),
        ("glm4_moe", {"first_k_dense_replace": -1}, "first_k_dense_replace is -1"),
        ("glm4_moe", {"n_shared_experts": "many"}, "n_shared_experts is 'many'"),
        ("glm4_moe", {"n_shared_experts": 200000}, "experts' shared width is 6400000"),
        ("glm4_moe", {"moe_intermediate_size": {}}, "moe_intermediate_size is {}"),
        ("glm4_moe", {"use_qk_norm": 2}, "use_qk_norm is 2, neither true nor false"),
        ("glm4_moe", {"num_nextn_predict_layers": 10**9}, "num_nextn_predict_layers is 1000000000"),
        ("glm4_moe", {"kv_lora_rank": 32}, "kv_lora_rank 32 is not supported"),
        ("deepseek_v3", {"qk_rope_head_dim": 15}, "qk_rope_head_dim is 15; rotary embedding needs an even one"),
        ("deepseek_v3", {"qk_rope_head_dim": 0}, "qk_rope_head_dim is 0"),
        ("deepseek_v3", {"qk_nope_head_dim": "x"}, "qk_nope_head_dim is 'x'"),
        ("deepseek_v3", {"v_head_dim": 10**7}, "v_head_dim is 10000000"),
        ("deepseek_v3", {"v_head_dim": 1000, "qk_nope_head_dim": 1024}, "head_dim is 2048"),
        ("deepseek_v3", {"kv_lora_rank": 10**9}, "kv_lora_rank is 1000000000"),
        ("deepseek_v3", {"q_lora_rank": [1]}, r"q_lora_rank is \[1\]"),
        ("deepseek_v3", {"rope_interleave": "no"}, "rope_interleave is 'no'"),
        ("deepseek_v3", {"scoring_func": "softmax"}, "scoring_func 'softmax' is not supported"),
        ("deepseek_v3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is not supported in DeepSeek-V3"),
        (
            "deepseek_v3",
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "mscale_all_dim": -1}},
            "rope mscale_all_dim is -1",
        ),
    ],
)
def test_what_contradicts_a_mixture_is_refused(name: str, changes: dict[str, Any], match: str) -> None:
    """Catches a field that is taken for another's, and sizes that become an allocation."""
    with pytest.raises(ModelError, match=match):
        from_hf(SMALL_CONFIG | MIXTURES[name] | changes, "test")


def test_layers_that_draft_tokens_are_skipped(tmp_path: Path) -> None:
    """Catches one that is refused, one that is run, and a layer beyond them that nobody names."""
    config = SMALL_CONFIG | MIXTURES["glm4_moe"]
    plain, drafting = write_model(tmp_path / "plain", config), write_model(tmp_path / "drafting", config)
    file = drafting / "model.safetensors"
    tensors = load_file(file)
    last = {name: tensor for name, tensor in tensors.items() if name.startswith("model.layers.2.")}
    drafts = {name.replace(".2.", ".3.", 1): tensor.clone() for name, tensor in last.items()} | {
        "model.layers.3.eh_proj.weight": torch.ones(96, 192)
    }
    save_file(tensors | drafts, file)
    checkpoint = open_checkpoint(str(drafting))
    assert set(checkpoint.skipped) == set(drafts)
    (line,) = [finding.detail for finding in model_facts(checkpoint) if finding.name == "skipped"]
    assert line == f"{len(drafts)} tensors of layers that draft tokens"
    prompts, labels = prompts_of(3), [LABELS] * 3
    found, expected = (Engine.load(str(one), dtype="float32").score(prompts, labels) for one in (drafting, plain))
    assert np.array_equal(found.logprob, expected.logprob)
    (drafting / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 0}))
    with pytest.raises(ModelError, match=r"model\.layers\.3\..* unknown to a GLM-4-MoE model"):
        open_checkpoint(str(drafting))
