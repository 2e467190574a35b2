"""Numbers of the embedded model against transformers, each prompt alone and whole logits rows; all in `make soak`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.hugging_face import embedded_directory
from preftree.labeling.judge.encoding import Encoded
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.types import Pair
from tests.engine.greedy import load
from tests.labeling.opened import read

PAIRS = Path(__file__).parent.parent / "examples" / "pairs.jsonl"
MAX_ERROR = 1e-3  # nats


def example_pairs() -> list[Pair]:
    pairs = [item for item in read(PAIRS) if isinstance(item, Pair)]
    assert len(pairs) == sum(1 for _ in PAIRS.open()), "an example was rejected"
    return pairs


def encode(scorer: Judge, pairs: list[Pair]) -> list[Encoded]:
    method = Rlaif(load_template("general"), preamble="base")
    return [scorer.encode(request) for pair in pairs for request in method.requests(pair)]


@pytest.mark.parametrize("every", [16, pytest.param(1, marks=pytest.mark.soak)])
def test_examples_equal_transformers(embedded_scorer: Callable[..., Judge], every: int) -> None:
    transformers_model = load(embedded_directory())
    encoded = encode(embedded_scorer(), example_pairs()[::every])
    expected = np.empty((len(encoded), 2))
    for index, item in enumerate(encoded):
        with torch.inference_mode():
            logits = transformers_model(torch.tensor([item.ids]), logits_to_keep=1).logits[0, -1]
        (first,), (second,) = item.labels
        expected[index] = logits.double().log_softmax(-1)[[first, second]].numpy()
    for prefix_cache in (True, False):
        scores = embedded_scorer(batch_tokens=2000, prefix_cache=prefix_cache).score(encoded)
        ours = np.array([score.answers[0].logprob for score in scores])
        assert np.abs(ours - expected).max() <= MAX_ERROR, f"prefix cache {prefix_cache}"
        mass = np.array([score.label_mass for score in scores])
        np.testing.assert_allclose(mass, np.exp(expected).sum(1), atol=MAX_ERROR)


def test_examples_are_what_the_readme_says() -> None:
    pairs = example_pairs()
    assert len(pairs) >= 24
    golds = [pair.gold for pair in pairs]
    assert abs(golds.count("a") - golds.count("b")) <= 1
    assert {pair.extra["language"] for pair in pairs} >= {"en", "de"}
    categories = {pair.extra["category"] for pair in pairs}
    assert categories >= {"summary", "helpfulness", "harmlessness", "code", "arithmetic"}
