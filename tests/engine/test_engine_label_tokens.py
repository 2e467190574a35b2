"""Labels token by token: log-probabilities, and whether greedy decoding would write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preftree import Engine
from tests.engine.test_engine_scores import LABELS, prompts_of


@pytest.fixture(scope="module")
def engine(directory: Path) -> Engine:
    return Engine.load(str(directory))


def greedy(engine: Engine, prompts: list[list[int]], count: int) -> list[list[int]]:
    """What greedy decoding writes, through `score` alone: a label's `top` is what follows what is before it."""
    written: list[list[int]] = [[] for _ in prompts]
    for _ in range(count):
        labels = [[[*done, 0]] for done in written]
        scores = engine.score(prompts, labels, with_tokens=True)
        assert scores.tokens is not None
        for done, (label,) in zip(written, scores.tokens, strict=True):
            done.append(int(label.top[-1]))
    return written


def test_tokens_equal_transformers_in_float64(directory: Path, engine: Engine) -> None:
    """Catches a token's probability at its neighbour's place, and labels of another prompt."""
    transformers = pytest.importorskip("transformers")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float64).eval()
    prompts = prompts_of(6, seed=11)
    labels = [LABELS[place % 3 :] for place in range(len(prompts))]
    scores = engine.score(prompts, labels, with_tokens=True)
    assert scores.tokens is not None
    for row, (prompt, options, found) in enumerate(zip(prompts, labels, scores.tokens, strict=True)):
        assert [label.ids.tolist() for label in found] == options
        for column, label in enumerate(found):
            with torch.inference_mode():
                logits = model(torch.tensor([prompt + options[column]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            expected = logits[range(len(label.ids)), label.ids]
            np.testing.assert_allclose(label.logprob, expected, atol=1e-4)
            assert label.top.tolist() == logits.argmax(-1).tolist()
            assert label.logprob.sum() == pytest.approx(scores.logprob[row, column], abs=1e-5)


def test_what_greedy_decoding_writes_is_greedy(engine: Engine) -> None:
    """Catches lm-eval's `is_greedy` that is true for a label with one token of another choice, or never."""
    prompts = prompts_of(3, seed=12)
    written = [row[0].ids for row in engine.generate(prompts, max_new_tokens=4)]
    assert [list(ids) for ids in written] == greedy(engine, prompts, 4)
    labels = [[list(ids), list(ids[:1]), [*ids[:3], 1 - min(ids[3], 1)], [1 - min(ids[0], 1)]] for ids in written]
    scores = engine.score(prompts, labels, with_tokens=True)
    assert scores.tokens is not None
    for found in scores.tokens:
        assert [label.is_greedy for label in found] == [True, True, False, False]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_asking_for_tokens_changes_nothing(directory: Path, dtype: str) -> None:
    """Catches bits that differ when tokens are asked for, or with what else is in the call, and in smaller batches."""
    engine = Engine.load(str(directory), dtype=dtype)
    prompts = prompts_of(9, seed=13)
    labels = [LABELS] * len(prompts)
    plain, whole = engine.score(prompts, labels), engine.score(prompts, labels, with_tokens=True)
    assert plain.tokens is None
    for name in ("logprob", "logit", "label_mass"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(whole, name))
    engine.batch_tokens = 300
    order = [4, 0, 8, 2]
    some = engine.score([prompts[place] for place in order], [LABELS] * 4, with_tokens=True)
    assert whole.tokens is not None
    assert some.tokens is not None
    for place, found in zip(order, some.tokens, strict=True):
        for ours, theirs in zip(found, whole.tokens[place], strict=True):
            np.testing.assert_array_equal(ours.logprob, theirs.logprob)
            np.testing.assert_array_equal(ours.top, theirs.top)


def test_tokens_of_skipped_prompts(engine: Engine) -> None:
    """Catches tokens that move to the prompt before where one was too long."""
    prompts = prompts_of(2, seed=14)
    long = [5] * (engine.checkpoint.config.max_context + 1)
    alone = engine.score(prompts, [LABELS] * 2, with_tokens=True).tokens
    scores = engine.score(
        [long, prompts[0], long, prompts[1]], [LABELS] * 4, with_tokens=True, skip_too_long=True
    ).tokens
    assert alone is not None
    assert scores is not None
    assert (scores[0], scores[2]) == ((), ())
    for found, expected in ((scores[1], alone[0]), (scores[3], alone[1])):
        assert [label.top.tolist() for label in found] == [label.top.tolist() for label in expected]
        assert [label.logprob.tolist() for label in found] == [label.logprob.tolist() for label in expected]
