"""Engines and judges that go to other processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preftree import Engine, InputError, Judge, ModelError
from preftree.engine.checkpoint import Checkpoint, open_checkpoint
from preftree.labeling.types import ScoreRequest
from tests.engine.test_engine_scores import LABELS, prompts_of

REQUEST = ScoreRequest("Which?", "Answer:", (" 1", " 2"))


def scored(engine: Engine) -> np.ndarray:
    return engine.score(prompts_of(3, seed=1), [LABELS] * 3).logprob


def judged(judge: Judge) -> tuple[float, ...]:
    (scores,) = judge.score([judge.encode(REQUEST)])
    return scores.answers[0].logprob


def in_spawned_process(function: Callable[[Any], Any], given: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply_async(function, (given,)).get(timeout=120)


def in_forked_child(function: Callable[[], object]) -> str:
    """What it raises there, in one line; a child that hangs is ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            function()
            said = "it ran"
        except BaseException as error:
            said = "".join(traceback.format_exception_only(error)).strip()
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said or "it hung"


def test_engines_and_judges_survive_spawn(directory: Path) -> None:
    """Catches a lock, a memory map or a compiled library in what is sent, and other bits in the other process."""
    engine = Engine.load(str(directory), dtype="float32")
    np.testing.assert_array_equal(in_spawned_process(scored, engine), scored(engine))
    judge = Judge.load(str(directory), dtype="float32", rendering="plain")
    assert in_spawned_process(judged, judge) == judged(judge)


def test_what_is_pickled_is_a_description(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches gigabytes of weights in a message, options that are lost, and a path that holds in one folder only."""
    monkeypatch.chdir(directory.parent)
    engine = Engine.load("small", batch_tokens=77, dtype="bfloat16", kv_memory=10**9)
    written = pickle.dumps(engine)
    assert len(written) < 1000
    monkeypatch.chdir("/")
    again = pickle.loads(written)
    assert (again.batch_tokens, again.dtype, again._kv_memory) == (77, engine.dtype, 10**9)
    judge = pickle.loads(pickle.dumps(Judge.load(str(directory), rendering="plain", weights=False, prefix_cache=False)))
    assert judge.describe()["rendering"] == "plain"
    assert judge.describe()["prefix_cache"] is False
    with pytest.raises(InputError, match="this judge has no weights"):
        judged(judge)


def test_what_has_no_description_says_so(directory: Path) -> None:
    """Catches a model in memory that arrives as another one, or as an error about a lock."""
    opened = open_checkpoint(str(directory))
    parts = (opened.config, opened.tokenizer, opened.chat_template, opened.weights, opened.files)
    checkpoint = Checkpoint("made here", *parts)
    with pytest.raises(ModelError, match="made here: a model in memory cannot go to another process"):
        pickle.dumps(checkpoint)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_children_are_told_to_load(directory: Path) -> None:
    """Catches a child that waits for ever for threads which stayed with its parent."""
    engine = Engine.load(str(directory))
    judge = Judge.load(str(directory), rendering="plain")
    before, request = scored(engine), judge.encode(REQUEST)
    calls: list[Callable[[], object]] = [
        lambda: scored(engine),
        lambda: list(engine.score_stream([(prompts_of(1, seed=1), [LABELS])])),
        lambda: engine.generate(prompts_of(1, seed=1), max_new_tokens=2),
        lambda: judge.score([request]),
    ]
    for call in calls:
        said = in_forked_child(call)
        assert "InputError: this engine was loaded before its process forked" in said
        assert "\n" not in said
    np.testing.assert_array_equal(scored(engine), before)
