"""Continuations that are given: scored to the bits of when they were generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from preftree import Engine, RationaleScores, Sampling
from preftree.engine.errors import InputError
from tests.engine.test_engine_scores import LABELS, prompts_of
from tests.models import SMALL_CONFIG, write_model

ENDING = [40, 41, 42]
DRAWN = Sampling(max_new_tokens=12, temperature=5.0, n=3, stop=("a", "e"), seed=5)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG))


def run(
    engine: Engine, prompts: Sequence[list[int]], sampling: Sampling, given: Sequence[Any] | None = None
) -> RationaleScores:
    asked = prompts, [ENDING] * len(prompts), [LABELS] * len(prompts)
    return engine.generate_and_score(*asked, sampling, given)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bits_of_when_they_were_generated(directory: str, dtype: str) -> None:
    """Catches a continuation that is run as part of its prompt, a token too many or too few, and a stop that counts."""
    engine = Engine.load(directory, dtype=dtype)
    prompts = prompts_of(9, seed=3)
    then = run(engine, prompts, DRAWN)
    given = [[one.ids for one in samples] for samples in then.generations]
    assert {one.finish for samples in then.generations for one in samples} == {"stop", "length"}
    assert min(len(ids) for samples in given for ids in samples) <= 1
    now = run(engine, prompts, DRAWN, given)
    assert now.generations == [[replace(one, rest="") for one in samples] for samples in then.generations]
    alone = run(engine, prompts[4:5], DRAWN, given[4:5])
    for name in ("logprob", "logit", "label_mass"):
        expected = getattr(then.scores, name)
        assert np.array_equal(getattr(now.scores, name), expected, equal_nan=True)
        assert np.array_equal(getattr(alone.scores, name), expected[12:15], equal_nan=True)


def test_an_empty_one(directory: str) -> None:
    """Catches a first token that is generated where nothing was written."""
    engine = Engine.load(directory)
    prompts = prompts_of(2, seed=3)
    found = run(engine, prompts, Sampling(max_new_tokens=4), [[[]], [[50]]])
    assert [one.ids for (one,) in found.generations] == [[], [50]]
    fresh = engine.score([prompts[0] + ENDING, [*prompts[1], 50, *ENDING]], [LABELS] * 2)
    np.testing.assert_allclose(found.scores.logprob, fresh.logprob, atol=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "there are 1 prompts, but continuations of 0"),
        ([[]], "prompt 0 has 0 continuations, but n is 1"),
        ([[[5] * 5]], "a continuation of prompt 0 has 5 tokens, but max_new_tokens is 4"),
        ([[[100_000]]], "a continuation of prompt 0 has token ids outside 0 to "),
        ([[["a"]]], "a continuation of prompt 0 must be a non-empty list of token ids"),
    ],
)
def test_what_cannot_be_run(directory: str, given: Any, message: str) -> None:
    """Catches an index error inside the engine."""
    with pytest.raises(InputError, match=f"^{message}"):
        run(Engine.load(directory), [[5, 6]], Sampling(max_new_tokens=4), given)
