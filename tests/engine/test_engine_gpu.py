"""The engine on a GPU: against transformers and float64, against itself on the CPU, and bit by bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preftree import Engine, Sampling
from preftree.engine.decoding import decoder
from tests.engine.poisoning import assert_nan_never_becomes_a_label
from tests.engine.test_decoding import DRAWN, ENDING, GREEDY, kv_memory_of, loader, reason
from tests.engine.test_decoding import assert_bit_exact as bits_of_continuations
from tests.engine.test_engine_scores import LABELS, VOCABULARY, exact_logprobs, prompts_of
from tests.models import QWEN3_CONFIG, REWARD_HEAD, SMALL_CONFIG, write_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # A model without kernels for the GPU would run on the CPU, with a warning, and prove nothing.
    pytest.mark.filterwarnings("error:.*running on the CPU"),
]

# One width for all of them: every other one would have its own kernels to compile.
SIZES = {"hidden_size": 384, "intermediate_size": 512, "num_hidden_layers": 3}
MODELS: dict[str, dict[str, Any]] = {
    "llama, 3 x 64 on 1, untied": SMALL_CONFIG
    | SIZES
    | {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 64},
    "llama, 8 x 128 on 2, tied": SMALL_CONFIG
    | SIZES
    | {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 128, "tie_word_embeddings": True},
    "qwen3, 4 x 128 on 2, tied": QWEN3_CONFIG
    | SIZES
    | {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 128, "tie_word_embeddings": True},
}
# Room for all sequences at once. Unasked, decoding takes most of the GPU, and tests beside this one find nothing left.
KV_TOKENS = 50_000
# Nats. Four times what came out with exact sums of rounded weights and activations; TF32 would exceed float32's.
TOLERANCE = {"bfloat16": 0.05, "float16": 0.006, "float32": 1e-4}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "gpu", MODELS[request.param])


@pytest.fixture(scope="module")
def exact(model: Path) -> np.ndarray:
    """Log-probabilities of LABELS after some prompts, [prompts, labels], by transformers in float64 on the CPU."""
    transformers = pytest.importorskip("transformers")
    oracle = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float64).eval()
    return np.array([exact_logprobs(oracle, prompt, LABELS) for prompt in prompts_of(12, seed=1)])


def on_gpu(model: Path, dtype: str, **options: Any) -> Engine:
    engine = Engine.load(str(model), device="cuda", dtype=dtype, **options)
    assert engine.device.type == "cuda"
    return engine


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_equals_transformers_in_float64(model: Path, exact: np.ndarray, dtype: str) -> None:
    """Labels of one to three tokens, some of which begin with others; once more with a prefix cache."""
    prompts = prompts_of(12, seed=1)
    engine = on_gpu(model, dtype)
    scores = engine.score(prompts, [LABELS] * len(prompts))
    np.testing.assert_allclose(scores.logprob, exact, atol=TOLERANCE[dtype])
    mass = np.exp(exact[:, [0, 1, 2]]).sum(1)
    np.testing.assert_allclose(np.log(scores.label_mass), np.log(mass), atol=TOLERANCE[dtype])
    assert np.isnan(scores.logit[:, 1:]).all(), "raw logits are for single tokens"
    assert np.isfinite(scores.logit[:, 0]).all()
    for _ in range(2):
        again = engine.score(prompts, [LABELS] * len(prompts))
        assert np.array_equal(again.logprob, scores.logprob)
    assert again.rows < scores.rows, "what the prompts share comes from the prefix cache"


def test_equals_the_cpu(model: Path) -> None:
    prompts = prompts_of(20, seed=2)
    labels = [LABELS] * len(prompts)
    ours = on_gpu(model, "float32").score(prompts, labels)
    theirs = Engine.load(str(model), device="cpu", dtype="float32").score(prompts, labels)
    np.testing.assert_allclose(ours.logprob, theirs.logprob, atol=1e-4)
    np.testing.assert_allclose(ours.logit, theirs.logit, atol=1e-4)
    np.testing.assert_allclose(ours.label_mass, theirs.label_mass, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_bits_of_a_prompt_are_its_own(model: Path, dtype: str) -> None:
    """Alone, in another order, in other batches, over several blocks of rows, with and without a prefix cache."""
    random = np.random.default_rng(3)
    prompts = prompts_of(12, seed=3) + [random.integers(0, VOCABULARY, 290).tolist() for _ in range(60)]
    labels = [LABELS] * len(prompts)
    engine = on_gpu(model, dtype)
    assert engine.plan(prompts, labels).rows > engine._model.layout.row_block
    expected = engine.score(prompts, labels).logprob
    assert np.isfinite(expected).all()
    assert np.array_equal(engine.score(prompts, labels).logprob, expected), "again"
    for index in (0, 5, 51):
        assert np.array_equal(engine.score([prompts[index]], [LABELS]).logprob[0], expected[index]), "alone"
    assert np.array_equal(engine.score(prompts[::-1], labels).logprob, expected[::-1]), "another order"
    assert np.array_equal(engine.score(prompts[:12], labels[:12]).logprob, expected[:12]), "some share a prefix"
    assert np.array_equal(engine.score(prompts[:12], labels[:12]).logprob, expected[:12]), "with a warm prefix cache"
    assert np.array_equal(engine.score(prompts, labels, prefix_cache=False).logprob, expected), "no prefix cache"
    for batch_tokens in (1, 300, 100_000):
        other = on_gpu(model, dtype, batch_tokens=batch_tokens)
        assert np.array_equal(other.score(prompts, labels).logprob, expected), f"batches of {batch_tokens}"


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_labels_are_bit_exact(model: Path, dtype: str) -> None:
    """The promise, through the whole program: text in, labels out."""
    from preftree.labeling.judge.judge import Judge
    from tests.test_invariants import assert_bit_exact, label, make_pairs

    def load_judge(**options: Any) -> Judge:
        return Judge.load(str(model), device="cuda", dtype=dtype, **options)

    pairs = make_pairs(10)
    assert_bit_exact(load_judge, pairs)
    straight, swapped = (label(load_judge(), chosen) for chosen in (pairs, [pair.swap() for pair in pairs]))
    assert straight["5"].p_a == 0.5, "identical responses"
    assert all(swapped[key].p_a == 1 - straight[key].p_a for key in straight)


def test_a_variant_engine_is_caught(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inverse: sums rounded as the number of tiles in the batch says."""
    from preftree.kernels import cuda
    from preftree.labeling.judge.judge import Judge
    from tests.test_invariants import assert_bit_exact, make_pairs

    linear, attention, tiles_of_batch = cuda.linear, cuda.tree_attention, [1]

    def variant(x: torch.Tensor, packed: cuda.PackedLinear, row_block: int | None = None) -> torch.Tensor:
        return linear(x, packed, row_block) if tiles_of_batch[0] % 2 else linear(x * 3, packed, row_block) / 3

    def counting(queries: torch.Tensor, kv: torch.Tensor, tiles: Any, out: torch.Tensor, **options: Any) -> None:
        tiles_of_batch[0] = sum(len(one.first_row) for one in (tiles if isinstance(tiles, tuple) else (tiles,)))
        attention(queries, kv, tiles, out, **options)

    monkeypatch.setattr(cuda, "linear", variant)
    monkeypatch.setattr(cuda, "tree_attention", counting)
    with pytest.raises(AssertionError):
        assert_bit_exact(lambda **options: Judge.load(str(model), device="cuda", **options), make_pairs(10))


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_continuations_are_bit_exact(model: Path, sampling: Sampling) -> None:
    """Replayed graphs: a sequence's row, its neighbours and what its row held before leave no trace."""
    load = loader(model, device="cuda", dtype="bfloat16", roomy=KV_TOKENS)
    bits_of_continuations(load, prompts_of(9, seed=3), sampling)


def test_steps_are_read_late(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a token that is fed wrongly, and every synchronisation in a step that torch knows of."""
    prompts = prompts_of(9, seed=3)
    step, seen = decoder.Decoder._step, []

    def guarded(self: decoder.Decoder, *given: Any) -> None:
        seen.append(decoder.STEPS_AHEAD["cuda"])
        # The first step of a run captures its graph, which synchronises.
        torch.cuda.set_sync_debug_mode("error" if seen.count(seen[-1]) > 1 else "default")
        try:
            step(self, *given)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(decoder.Decoder, "_step", guarded)
    found = []
    for ahead in (0, 1):
        monkeypatch.setitem(decoder.STEPS_AHEAD, "cuda", ahead)
        found.append(reason(on_gpu(model, "bfloat16", kv_memory=kv_memory_of(model, KV_TOKENS, 2)), prompts, DRAWN))
    at_once, late = found
    assert seen.count(0) > 10
    assert seen.count(1) > 10
    assert late.generations == at_once.generations
    assert np.array_equal(late.scores.logprob, at_once.scores.logprob)


def test_labels_behind_continuations_equal_a_fresh_pass(model: Path) -> None:
    prompts = prompts_of(7, seed=2)
    engine = on_gpu(model, "float32", kv_memory=kv_memory_of(model, KV_TOKENS))
    reasoned = reason(engine, prompts, GREEDY)
    whole = [prompt + one.ids + ENDING for prompt, (one,) in zip(prompts, reasoned.generations, strict=True)]
    fresh = engine.score(whole, [LABELS] * len(whole))
    np.testing.assert_allclose(reasoned.scores.logprob, fresh.logprob, atol=1e-4)
    assert (
        engine.generate_and_score([prompts[0]] * 300, [ENDING] * 300, [LABELS] * 300, GREEDY).generations[299]
        == (reasoned.generations[0])
    ), "more sequences than places in the batch"


def test_nan_never_becomes_a_label(model: Path) -> None:
    assert_nan_never_becomes_a_label(on_gpu(model, "bfloat16"), prompts_of(3, seed=4))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rewards(tmp_path: Path, dtype: str) -> None:
    """Against transformers in float64; and the same bits alone, in small batches, in a stream and after a prefix."""
    transformers = pytest.importorskip("transformers")
    directory = write_model(tmp_path / "reward", MODELS["llama, 3 x 64 on 1, untied"] | REWARD_HEAD)
    oracle = transformers.AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float64).eval()
    prompts = prompts_of(12, seed=1)
    with torch.inference_mode():
        expected = np.array([oracle(torch.tensor([prompt])).logits.item() for prompt in prompts])
    assert expected.std() > 0.01
    engine = on_gpu(directory, dtype)
    rewards = engine.reward(prompts, prefix_cache=False)
    np.testing.assert_allclose(rewards, expected, atol=TOLERANCE[dtype])
    streamed = engine.reward_stream([prompts[:5], [], prompts[5:]])
    assert np.array_equal(np.concatenate(list(streamed)), rewards)
    engine.batch_tokens = 100
    assert np.array_equal(engine.reward(prompts[::-1])[::-1], rewards)
    assert np.array_equal(engine.reward(prompts[3:4]), rewards[3:4])


def test_streamed_layers_give_the_bits_of_resident_ones(model: Path) -> None:
    """Catches a copy that overtakes the kernels that read a buffer, or is overtaken by them, batch after batch."""
    prompts, found = prompts_of(60, seed=4), []
    for how in ("never", "always"):
        with on_gpu(
            model, "bfloat16", stream_layers=how, batch_tokens=1024, kv_memory=kv_memory_of(model, KV_TOKENS, 2)
        ) as engine:
            assert engine.target.streams_layers == (how == "always")
            scored = [engine.score(prompts, [LABELS] * len(prompts)).logprob.tobytes() for _ in range(3)]
            found.append((scored, engine.generate(prompts[:9], 8)))
    assert found[0] == found[1]
