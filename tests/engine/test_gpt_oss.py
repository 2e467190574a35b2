"""gpt-oss: what it decodes, and what of its files cannot be followed. Scores are in `test_architectures.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preftree import Engine, ModelError, Sampling
from preftree.engine.config.hf_config import from_hf
from preftree.engine.weights.names import num_linear_parameters, num_parameters
from tests.engine.greedy import transformers_choices
from tests.engine.test_engine_scores import LABELS, prompts_of
from tests.models import GPT_OSS_CONFIG, write_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "gpt_oss", GPT_OSS_CONFIG)


def test_greedy_text_is_that_of_transformers(directory: Path) -> None:
    """Catches a decode step without sinks, or with those of another head; prompts are longer than the window."""
    prompts = prompts_of(4, seed=1)
    with Engine.load(str(directory)) as engine:
        continued = engine.generate(prompts, max_new_tokens=12)
    for prompt, (one,) in zip(prompts, continued, strict=True):
        assert transformers_choices(directory, prompt, one.ids)[:-1] == one.ids
    assert max(map(len, prompts)) > GPT_OSS_CONFIG["sliding_window"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_labels_after_a_continuation_equal_a_fresh_pass(directory: Path, dtype: str) -> None:
    """Catches keys of decode steps that labels do not see, in the kernels of either type."""
    prompts, ending = prompts_of(4, seed=2), [40, 41]
    asked = [ending] * len(prompts), [LABELS] * len(prompts), Sampling(max_new_tokens=6)
    with Engine.load(str(directory), dtype=dtype) as engine:
        found = engine.generate_and_score(prompts, *asked)
        texts = [prompt + one.ids + ending for prompt, (one,) in zip(prompts, found.generations, strict=True)]
        fresh = engine.score(texts, [LABELS] * len(texts))
    np.testing.assert_allclose(found.scores.logprob, fresh.logprob, atol=1e-4 if dtype == "float32" else 0.05)


def test_parameters_are_counted() -> None:
    """Catches stacked experts, their biases or sinks that no estimate of memory knows of."""
    config = from_hf(GPT_OSS_CONFIG, "test")
    hidden, kv = 96, 2 * 2 * 16
    experts = 4 * 3 * hidden * 32
    assert num_linear_parameters(config) == 3 * (2 * hidden * hidden + hidden * kv + experts)
    biases = hidden + kv + hidden + 4 * (2 * 32 + hidden)
    others = biases + 4 * (hidden + 1) + 6 + 2 * hidden
    vocabulary = 2 * 261 * hidden
    assert num_parameters(config) == num_linear_parameters(config) + 3 * others + hidden + vocabulary


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"swiglu_alpha": 1.0}, "swiglu_alpha 1.0 is not supported"),
        ({"swiglu_limit": 9.0}, "swiglu_limit 9.0 is not supported"),
        ({"hidden_act": "gelu_pytorch_tanh"}, "hidden_act 'gelu_pytorch_tanh' is not supported in gpt-oss"),
        ({"sliding_window": None}, "sliding_window is null"),
        ({"num_local_experts": 0}, "experts' count is 0"),
        ({"num_experts_per_tok": 5}, "experts' per_token is 5"),
    ],
)
def test_refused(changes: dict[str, Any], match: str) -> None:
    """Catches a field that is not followed, and labels that are those of another model."""
    with pytest.raises(ModelError, match=match):
        from_hf(GPT_OSS_CONFIG | changes, "test")
