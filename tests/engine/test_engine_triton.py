"""The whole engine on the Triton kernels, in the interpreter: the labels of the CPU path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import preftree.engine.device as target_module
from preftree import Engine, Sampling
from preftree.engine.profiling import OPERATIONS
from tests.engine.poisoning import assert_nan_never_becomes_a_label
from tests.engine.test_decoding import LOGITS, seen_by_next_tokens
from tests.engine.test_engine_scores import LABELS, VOCABULARY, prompts_of
from tests.models import GPT_OSS_CONFIG, QWEN3_CONFIG, REWARD_HEAD, SMALL_CONFIG, write_model

# `tests/engine/test_engine_gpu.py` is for machines that have one: there, nothing runs in the interpreter.
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which cannot read the CPU's memory")

# 64 is the smallest head the launch table knows; 3 query heads share one of keys and values.
SIZES = {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 64, "num_hidden_layers": 2}
# A window in the first layer, soft caps in both and over the logits, GeGLU, biases.
GEMMA2_CONFIG = SMALL_CONFIG | {
    "architectures": ["Gemma2ForCausalLM"],
    "model_type": "gemma2",
    "hidden_act": None,
    "sliding_window": 37,
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 3.0,
    "attention_bias": True,
}
# A router of sigmoids in float32, a shared expert, a dense layer, and latent attention padded to heads of size 64.
DEEPSEEK_CONFIG = SMALL_CONFIG | {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "q_lora_rank": 24,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 40,
    "qk_rope_head_dim": 16,
    "v_head_dim": 32,
    "n_routed_experts": 6,
    "num_experts_per_tok": 2,
    "n_group": 3,
    "topk_group": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
}


# LayerNorm, attention beside the MLP, a layer that does not rotate beside one that does so with its neighbours.
COHERE2_CONFIG = SMALL_CONFIG | {
    "architectures": ["Cohere2ForCausalLM"],
    "model_type": "cohere2",
    "sliding_window": 37,
    "sliding_window_pattern": 2,
    "logit_scale": 0.7,
}
# Heads of two sizes, values that are keys, an embedding for each layer.
GEMMA4_CONFIG = SMALL_CONFIG | {
    "architectures": ["Gemma4ForCausalLM"],
    "model_type": "gemma4_text",
    "hidden_act": None,
    "sliding_window": 37,
    "global_head_dim": 80,
    "attention_k_eq_v": True,
    "hidden_size_per_layer_input": 16,
    "vocab_size_per_layer_input": SMALL_CONFIG["vocab_size"],
}
FAMILIES = {
    "llama": SMALL_CONFIG,
    "qwen3": QWEN3_CONFIG,
    "gemma2": GEMMA2_CONFIG,
    "gemma4": GEMMA4_CONFIG,
    "cohere2": COHERE2_CONFIG,
    "deepseek_v3": DEEPSEEK_CONFIG,
    "gpt_oss": GPT_OSS_CONFIG,
}


@pytest.fixture(scope="module", params=FAMILIES.values(), ids=list(FAMILIES))
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "triton", request.param | SIZES)


@pytest.fixture
def triton_engine(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    pytest.importorskip("triton")
    from preftree.kernels import cuda

    monkeypatch.setattr(cuda, "NARROW_ROW_BLOCK", 64)
    monkeypatch.setattr(cuda, "FINAL_ROW_BLOCK", 16)
    monkeypatch.setattr(cuda, "STEP_BLOCK", 4)
    monkeypatch.setattr(cuda, "CHUNK_BLOCKS", 2)
    monkeypatch.setattr(target_module, "implementation", lambda device, dtype: cuda)
    return Engine.load(str(directory))


def test_labels_equal_those_of_the_cpu_path(directory: Path, triton_engine: Engine) -> None:
    """Path tiles, fused stores, split label head, prefix cache and teacher-forced labels, end to end."""
    prompts = [prompt[:100] for prompt in prompts_of(4, seed=1)]
    labels = [LABELS] * len(prompts)
    ours = triton_engine.score(prompts, labels)
    again = triton_engine.score(prompts[:1], labels[:1])
    assert np.array_equal(ours.logprob[:1], again.logprob), "alone, with a warm prefix cache"
    reference = cpu_scores(directory, prompts, labels)
    np.testing.assert_allclose(ours.logprob, reference, atol=1e-4)


@pytest.mark.parametrize("directory", [SMALL_CONFIG], indirect=True, ids=["llama"])
def test_most_probable_tokens_equal_those_of_the_cpu_path(directory: Path, triton_engine: Engine) -> None:
    """Catches tokens of padding rows, and other bits when they are asked for."""
    prompts, labels = [prompt[:60] for prompt in prompts_of(3, seed=1)], [LABELS] * 3
    ours = triton_engine.score(prompts, labels, with_tokens=True)
    np.testing.assert_array_equal(ours.logprob, triton_engine.score(prompts, labels).logprob)
    with on_cpu_path():
        reference = Engine.load(str(directory)).score(prompts, labels, with_tokens=True)
    assert ours.tokens is not None
    assert reference.tokens is not None
    for found, expected in zip(ours.tokens, reference.tokens, strict=True):
        assert [label.top.tolist() for label in found] == [label.top.tolist() for label in expected]


@pytest.mark.parametrize("directory", [SMALL_CONFIG], indirect=True, ids=["llama"])
def test_chunks_of_element_wise_operations_change_no_bits(
    directory: Path, triton_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several blocks at once, and a last chunk of fewer, against one block at a time."""
    from preftree.kernels import cuda

    prompts = np.random.default_rng(3).integers(0, VOCABULARY, (3, 60)).tolist()
    labels = [LABELS] * len(prompts)
    assert triton_engine.plan(prompts, labels).rows > 64 * cuda.CHUNK_BLOCKS > 64
    monkeypatch.setattr(cuda, "CHUNK_BLOCKS", 1)
    one_by_one = Engine.load(str(directory)).score(prompts, labels)
    assert np.array_equal(triton_engine.score(prompts, labels).logprob, one_by_one.logprob)


@pytest.mark.parametrize(
    "directory",
    [
        SMALL_CONFIG,
        *(pytest.param(config, marks=pytest.mark.soak) for config in (QWEN3_CONFIG, GEMMA2_CONFIG, GPT_OSS_CONFIG)),
    ],
    indirect=True,
    ids=["llama", "qwen3", "gemma2", "gpt_oss"],
)
def test_continuations_equal_those_of_the_cpu_path(directory: Path, triton_engine: Engine) -> None:
    """Steps over paths that lie scattered in the store, in rows that sequences leave and others take."""
    prompts = [prompt[:80] for prompt in prompts_of(3, seed=2)]
    endings, labels, sampling = [[40, 41]] * len(prompts), [LABELS] * len(prompts), Sampling(max_new_tokens=4)
    ours = triton_engine.generate_and_score(prompts, endings, labels, sampling)
    alone = triton_engine.generate_and_score(prompts[:1], endings[:1], labels[:1], sampling)
    assert alone.generations == ours.generations[:1]
    assert np.array_equal(alone.scores.logprob, ours.scores.logprob[:1])
    with on_cpu_path():
        reference = Engine.load(str(directory)).generate_and_score(prompts, endings, labels, sampling)
    assert ours.generations == reference.generations
    np.testing.assert_allclose(ours.scores.logprob, reference.scores.logprob, atol=1e-4)


@pytest.mark.parametrize(
    "directory",
    [GEMMA2_CONFIG | REWARD_HEAD | {"architectures": ["Gemma2ForSequenceClassification"]}],
    indirect=True,
    ids=["gemma2, reward"],
)
def test_rewards_equal_those_of_the_cpu_path(directory: Path, triton_engine: Engine) -> None:
    """Catches a cap on rewards, and bits that depend on the batch, or on a warm prefix cache."""
    prompts = [prompt[50:110] for prompt in prompts_of(3, seed=1)]
    ours = triton_engine.reward(prompts)
    assert np.array_equal(triton_engine.reward(prompts[:1]), ours[:1]), "alone, with a warm prefix cache"
    triton_engine.batch_tokens = 64
    assert np.array_equal(triton_engine.reward(prompts[::-1]), ours[::-1]), "in small batches"
    with on_cpu_path():
        reference = Engine.load(str(directory)).reward(prompts)
    assert reference.std() > 0.01
    np.testing.assert_allclose(ours, reference, atol=1e-4)


@pytest.mark.parametrize("directory", [QWEN3_CONFIG], indirect=True, ids=["qwen3"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_never_becomes_a_label(triton_engine: Engine) -> None:
    assert_nan_never_becomes_a_label(triton_engine, [prompt[:5] for prompt in prompts_of(2, seed=4)])


@pytest.mark.parametrize("directory", [SMALL_CONFIG], indirect=True, ids=["llama"])
def test_operations_of_a_pass(triton_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a product, or a pass over the rows, more than layers need. Two layers, one block of rows."""
    from preftree.kernels import cuda

    counts: Counter[str] = Counter()

    def counted(name: str) -> Callable[..., Any]:
        operation = getattr(cuda, name)

        def call(*arguments: Any, **named: Any) -> Any:
            counts[name] += 1
            return operation(*arguments, **named)

        return call

    for name in filter(partial(hasattr, cuda), OPERATIONS):
        monkeypatch.setattr(cuda, name, counted(name))
    triton_engine.score([prompts_of(1, seed=5)[0][:20]], [LABELS], prefix_cache=False)
    of_each = {
        "gated": 1,
        "linear": 2,
        "add_linear": 2,
        "rms_norm": 2,
        "tree_attention": 1,
    }  # gated: a linear, and SwiGLU
    expected = Counter({name: 2 * count for name, count in of_each.items()})
    # The last layer's queries are those of final rows only.
    expected += Counter(["store_qkv", "linear", "rms_norm", "store_kv", "rotate", "rms_norm", "label_head"])
    assert counts == expected


@pytest.mark.parametrize("directory", [SMALL_CONFIG], indirect=True, ids=["llama"])
def test_tokens_are_drawn_a_step_block_at_a_time(triton_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a graph is captured: 5 first tokens in two blocks of 4, steps in blocks of 4."""
    shapes = seen_by_next_tokens(monkeypatch)
    triton_engine.generate([prompt[:9] for prompt in prompts_of(5, seed=2)], max_new_tokens=2, temperature=0.9)
    assert set(shapes) == {((4, LOGITS), (4,))}
    assert len(shapes) >= 2 + 1


@contextmanager
def on_cpu_path() -> Iterator[None]:
    from preftree.kernels import cpu

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target_module, "implementation", lambda device, dtype: cpu)
        yield


def cpu_scores(directory: Path, prompts: list[list[int]], labels: list[list[list[int]]]) -> np.ndarray:
    with on_cpu_path():
        return Engine.load(str(directory)).score(prompts, labels).logprob
