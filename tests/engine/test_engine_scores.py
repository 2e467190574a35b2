"""Log-probabilities against transformers and float64, and the engine's own bookkeeping, on a small random model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preftree import Engine, Planner
from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.errors import InputError
from tests.models import SMALL_CONFIG, write_model

VOCABULARY = SMALL_CONFIG["vocab_size"]


@pytest.fixture
def engine(directory: Path) -> Engine:
    return Engine.load(str(directory))


def prompts_of(count: int, seed: int, shared: int = 70) -> list[list[int]]:
    """Prompts with a common prefix and pairwise overlaps."""
    generator = np.random.default_rng(seed)
    trunk = generator.integers(0, VOCABULARY, 300).tolist()
    cuts = generator.integers(shared, 280, count)
    return [trunk[:cut] + generator.integers(0, VOCABULARY, generator.integers(1, 60)).tolist() for cut in cuts]


LABELS = [[33], [34, 35], [34, 36, 37], [33, 40]]


def exact_logprobs(model: Any, prompt: list[int], labels: list[list[int]]) -> list[float]:
    """transformers in float64: each prompt alone, whole vocabulary rows."""
    result = []
    for label in labels:
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + label[:-1]])).logits[0].log_softmax(-1)
        places = range(len(prompt) - 1, len(prompt) + len(label) - 1)
        result.append(sum(logits[place, token].item() for place, token in zip(places, label, strict=True)))
    return result


def test_equals_transformers_in_float64(directory: Path, engine: Engine) -> None:
    """Grouped queries, untied head, labels of one to three tokens, some of which begin with others."""
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64).eval()
    prompts = prompts_of(12, seed=1)
    scores = engine.score(prompts, [LABELS] * len(prompts))
    expected = np.array([exact_logprobs(model, prompt, LABELS) for prompt in prompts])
    np.testing.assert_allclose(scores.logprob, expected, atol=1e-4)
    np.testing.assert_allclose(scores.label_mass, np.exp(expected[:, [0, 1, 2]]).sum(1), rtol=1e-4)
    assert np.isnan(scores.logit[:, 1:]).all(), "raw logits are for single tokens"
    assert np.isfinite(scores.logit[:, 0]).all()


def test_prompts_that_are_too_long_are_reported(engine: Engine) -> None:
    """Catches a call of a thousand prompts that fails for one, rows that move, and other faults that pass."""
    context = engine.checkpoint.config.max_context
    prompts, labels = prompts_of(4, seed=3), [[[33]], [[34], [35]], [[36]], [[37], [38]]]
    long = [5] * context
    mixed = [long, *prompts[:2], long, *prompts[2:], long]
    options = [[[33], [34, 35], [36, 37]], *labels[:2], [[33, 34]], *labels[2:], [[33, 34]]]
    scores, alone = engine.score(mixed, options, skip_too_long=True), engine.score(prompts, labels)
    assert scores.too_long == (0, 3, 6)
    assert scores.logprob.shape == scores.logit.shape == (7, 3)
    rows = [1, 2, 4, 5]
    for name in ("logprob", "logit"):
        np.testing.assert_array_equal(getattr(scores, name)[rows, :2], getattr(alone, name))
    np.testing.assert_array_equal(scores.label_mass[rows], alone.label_mass)
    assert np.isnan(scores.logprob[[0, 3, 6]]).all()
    assert np.isnan(scores.label_mass[[0, 3, 6]]).all()
    # With a label of one token it fits exactly.
    assert engine.score([long], [[[33]]], skip_too_long=True).too_long == ()
    with pytest.raises(InputError, match=r"prompt 0 has .* tokens with its longest label"):
        engine.score(mixed, options)
    with pytest.raises(InputError, match="prompt 1 has token ids outside"):
        engine.score([long, [-1]], [[[33, 34]], [[33]]], skip_too_long=True)
    none = engine.score([long], [[[33, 34], [35]]], skip_too_long=True)
    assert (none.too_long, none.logprob.shape, none.rows) == ((0,), (1, 2), 0)


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.15), ("float16", 0.02)])
def test_half_precision(directory: Path, engine: Engine, dtype: str, tolerance: float) -> None:
    prompts = prompts_of(6, seed=2)
    labels = [LABELS] * len(prompts)
    half = Engine.load(str(directory), dtype=dtype)
    np.testing.assert_allclose(
        half.score(prompts, labels).logprob, engine.score(prompts, labels).logprob, atol=tolerance
    )


def test_llama3_rope(tmp_path: Path) -> None:
    """Scaled frequencies, with prompts longer than the original context."""
    transformers = pytest.importorskip("transformers")
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    directory = write_model(tmp_path / "rope", SMALL_CONFIG | {"rope_parameters": rope})
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64).eval()
    prompts = prompts_of(3, seed=3)
    scores = Engine.load(str(directory)).score(prompts, [LABELS] * 3)
    expected = np.array([exact_logprobs(model, prompt, LABELS) for prompt in prompts])
    np.testing.assert_allclose(scores.logprob, expected, atol=1e-4)


def test_ragged_labels_and_duplicates(engine: Engine) -> None:
    prompt = prompts_of(1, seed=4)[0]
    scores = engine.score([prompt, prompt, prompt[:50]], [LABELS, [[33]], [[33], [34]]])
    assert np.isnan(scores.logprob[1, 1:]).all()
    assert np.isnan(scores.logprob[2, 2:]).all()
    assert scores.logprob[0, 0] == scores.logprob[1, 0], "equal prompts share a row"
    np.testing.assert_allclose(scores.label_mass[1], np.exp(scores.logprob[1, 0].astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("batch_tokens", [64, 500, 4096])
def test_plan_says_what_score_does(directory: Path, batch_tokens: int) -> None:
    """Rows, batches and the prefix cache, call after call, without weights."""
    engine = Engine.load(str(directory), batch_tokens=batch_tokens)
    planner = Planner(open_checkpoint(str(directory)), batch_tokens=batch_tokens)
    for seed in (5, 5, 6):
        prompts = prompts_of(10, seed)
        labels = [[[33], [34]]] * len(prompts)
        plan, scores = planner.plan(prompts, labels), engine.score(prompts, labels)
        assert (plan.rows, plan.batches, plan.prompt_tokens) == (scores.rows, scores.batches, scores.prompt_tokens)
        assert plan.unique_tokens <= plan.rows + 300
        assert plan.peak_bytes > 0


def test_nan_weights_never_become_a_label(directory: Path) -> None:
    """A model that computes NaN must say NaN, not a number."""
    engine = Engine.load(str(directory))
    engine._model.weights.final_norm.fill_(float("nan"))
    scores = engine.score([[5, 6, 7]], [[[33], [34]]])
    assert np.isnan(scores.logprob).all()
    assert np.isnan(scores.label_mass).all()


@pytest.mark.parametrize(
    ("prompts", "labels", "message"),
    [
        ([], [], "no prompts"),
        ([[1]], [], "labels for 0"),
        ([[]], [[[1]]], "prompt 0 must be a non-empty list"),
        ([[1, 2]], [[]], "prompt 0 has no labels"),
        ([[1, 2]], [[[]]], "a label of prompt 0 must be"),
        ([[1, -2]], [[[1]]], "outside 0 to"),
        ([[1, VOCABULARY]], [[[1]]], "outside 0 to"),
        ([[1, 2]], [[[VOCABULARY]]], "a label of prompt 0 has token ids outside"),
        ([[1.5]], [[[1]]], "prompt 0 must be"),
        ([[[1]]], [[[1]]], "prompt 0 must be"),
        ([[1] * 5000], [[[1]]], "context is"),
        ([[1] * 4096], [[[1, 2]]], "4,097 tokens"),
    ],
)
def test_bad_requests(engine: Engine, prompts: Any, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        engine.score(prompts, labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "device 'cuda' cannot be used"),
        ({"device": "nowhere"}, "device 'nowhere' cannot be used"),
        ({"dtype": "int4"}, "dtype 'int4' is not supported"),
        ({"batch_tokens": 0}, "batch_tokens is 0"),
    ],
)
def test_bad_options(directory: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Engine.load(str(directory), **options)
