"""Qwen3: norms of every query and key head, heads of any size. Against transformers, and bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from preftree import Engine, Planner
from preftree.engine.checkpoint import open_checkpoint
from preftree.labeling.judge.judge import Judge
from tests.engine.test_engine_scores import LABELS, exact_logprobs, prompts_of
from tests.models import QK_NORMS, QWEN3_CONFIG, write_model, write_tokenizer
from tests.test_invariants import assert_bit_exact, make_pairs


def save_qwen3(directory: Path, **changes: object) -> Path:
    """A random Qwen3ForCausalLM as transformers itself writes it, and the tests' tokenizer."""
    transformers = pytest.importorskip("transformers")
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**(QWEN3_CONFIG | changes)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.1 * torch.randn(parameter.shape, generator=generator)
            # Uneven head norms do not commute with the rotation, and large ones make attention prefer some keys.
            parameter.copy_(noise * 4 + 1.5 if name.endswith(QK_NORMS) else noise + (parameter.ndim == 1))
    model.save_pretrained(directory)
    write_tokenizer(directory)
    return directory


@pytest.mark.parametrize("tied", [False, True])
def test_equals_transformers(tmp_path: Path, tied: bool) -> None:
    """Catches a norm left out, put behind the rotation, swapped between queries and keys, or with another epsilon."""
    directory = save_qwen3(tmp_path / "qwen3", tie_word_embeddings=tied, rms_norm_eps=1e-3)
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64).eval()
    prompts = prompts_of(10, seed=1)
    labels = [LABELS] * len(prompts)
    engine = Engine.load(str(directory), batch_tokens=300)
    cold = engine.score(prompts, labels, prefix_cache=False)
    cached = engine.score(prompts, labels)
    assert cached.batches > 1
    expected = np.array([exact_logprobs(model, prompt, LABELS) for prompt in prompts])
    assert expected.std(0).min() > 0.1, "the prompts have different answers"
    np.testing.assert_allclose(cold.logprob, expected, atol=1e-4)
    assert np.array_equal(cached.logprob, cold.logprob)
    assert np.array_equal(engine.score(prompts, labels).logprob, cold.logprob), "a warm prefix cache"


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.soak), "bfloat16"])
def test_labels_are_bit_exact(tmp_path: Path, dtype: str) -> None:
    """Catches a head norm whose sums depend on the rows beside it."""
    directory = write_model(tmp_path / "qwen3", QWEN3_CONFIG)
    assert_bit_exact(lambda **options: Judge.load(str(directory), dtype=dtype, **options), make_pairs(8))


def test_a_plan_needs_no_weights(tmp_path: Path) -> None:
    """Catches head norms that the size of the weights leaves out."""
    checkpoint = open_checkpoint(str(write_model(tmp_path / "qwen3", QWEN3_CONFIG)))
    prompts = prompts_of(4, seed=2)
    plan = Planner(checkpoint).plan(prompts, [LABELS] * len(prompts))
    tensors = (checkpoint.weights.tensor(name, shape) for name, shape in _shapes(checkpoint.files[-1]).items())
    assert plan.weight_bytes == sum(tensor.nbytes for tensor in tensors)


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    from safetensors.torch import load_file

    return {name: tuple(tensor.shape) for name, tensor in load_file(path).items()}
