"""Calls in a row: the same bits launched ahead or not, and when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from preftree import Engine, LabelScores
from preftree.engine.errors import InputError
from preftree.engine.memory import is_out_of_memory
from preftree.engine.model.model import Model
from preftree.engine.planning.plan import Plan
from preftree.engine.scoring.batch import LaunchedBatch, PreparedBatch
from preftree.engine.scoring.runner import LAUNCHED_AHEAD
from tests.engine.test_engine_scores import LABELS, prompts_of

Call = tuple[list[list[int]], list[list[list[int]]]]


@pytest.fixture
def engine(directory: Path) -> Engine:
    return Engine.load(str(directory), batch_tokens=300)


def calls() -> list[Call]:
    """Three calls of several batches, the last two with another prefix in common than the first."""
    found = [prompts_of(count, seed, shared=100) for count, seed in ((9, 1), (7, 2), (8, 2))]
    return [(prompts, [LABELS] * len(prompts)) for prompts in found]


def launch_ahead(engine: Engine) -> Engine:
    """As on a GPU: collected two batches behind."""
    engine._runner._launched_ahead = LAUNCHED_AHEAD
    return engine


def assert_same(ours: list[LabelScores], theirs: list[LabelScores]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.logprob, other.logprob, equal_nan=True)
        assert np.array_equal(one.logit, other.logit, equal_nan=True)
        assert np.array_equal(one.label_mass, other.label_mass)


def test_a_stream_is_one_score_after_the_other(directory: Path, engine: Engine) -> None:
    alone = Engine.load(str(directory), batch_tokens=300)
    expected = [alone.score(*call) for call in calls()]
    found = list(engine.score_stream(calls()))
    assert_same(found, expected)
    assert [(scores.rows, scores.batches) for scores in found] == [(scores.rows, scores.batches) for scores in expected]
    assert all(scores.batches > 1 for scores in found)


def test_launching_ahead_changes_no_bit(directory: Path, engine: Engine) -> None:
    """Catches a batch that runs with the prefix of a later one."""
    expected = list(engine.score_stream(calls()))
    eager = launch_ahead(Engine.load(str(directory), batch_tokens=300))
    assert_same(list(eager.score_stream(calls())), expected)


def test_the_next_calls_are_planned_while_earlier_ones_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What hides tokenising and planning behind the GPU: nothing waits for a call before the next ones are launched."""
    events: list[str] = []
    launch, collect = PreparedBatch.launch, LaunchedBatch.collect

    def asked() -> Iterator[Call]:
        for call in calls():
            events.append("asked")
            yield call

    def launched(self: PreparedBatch, model: Model) -> LaunchedBatch:
        events.append("launched")
        return launch(self, model)

    def collected(self: LaunchedBatch) -> None:
        events.append("collected")
        collect(self)

    monkeypatch.setattr(PreparedBatch, "launch", launched)
    monkeypatch.setattr(LaunchedBatch, "collect", collected)
    engine.batch_tokens = 100_000  # one batch a call
    assert len(list(launch_ahead(engine).score_stream(asked()))) == 3
    assert events == ["asked", "launched"] * 3 + ["collected"] * 3


def test_another_call_amid_a_stream(directory: Path, engine: Engine) -> None:
    """A stream has planned its next batches with the prefix at hand; a call with another prefix must not touch them."""
    expected = list(engine.score_stream(calls()))
    busy = launch_ahead(Engine.load(str(directory), batch_tokens=300))
    stream = busy.score_stream(calls())
    found = [next(stream)]
    other = [([5] * 60 + prompt, [[33]]) for prompt in prompts_of(6, seed=9)]
    busy.score([prompt for prompt, _ in other], [labels for _, labels in other])
    assert_same([*found, *stream], expected)


def test_a_stream_that_is_left_early(engine: Engine) -> None:
    stream = launch_ahead(engine).score_stream(calls())
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert engine.score(*calls()[0]).batches > 1


@pytest.mark.parametrize("is_ahead", [False, True])
def test_calls_without_prompts_wait_for_their_turn(engine: Engine, is_ahead: bool) -> None:
    nothing: Call = ([], [])
    found = (launch_ahead(engine) if is_ahead else engine).score_stream([nothing, *calls()[:2], nothing, nothing])
    assert [len(scores.logprob) for scores in found] == [0, 9, 7, 0, 0]


def test_a_bad_call_ends_the_stream(engine: Engine) -> None:
    with pytest.raises(InputError, match="prompt 0 has no labels"):
        list(launch_ahead(engine).score_stream([calls()[0], ([[1, 2]], [[]])]))


class Full:
    """A device that has room for so many rows and no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
        self.refused: list[int] = []
        runs = Model.final_hidden

        def final_hidden(model: Model, plan: Plan, cache: object = None) -> torch.Tensor:
            if plan.num_rows > rows:
                self.refused.append(plan.num_rows)
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
            return runs(model, plan, cache)  # type: ignore[arg-type]

        monkeypatch.setattr(Model, "final_hidden", final_hidden)


@pytest.mark.parametrize("is_ahead", [False, True])
def test_out_of_memory_halves_the_batches_and_changes_no_bit(
    directory: Path, engine: Engine, is_ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = list(engine.score_stream(calls()))
    full = Full(monkeypatch, rows=450)
    tight = Engine.load(str(directory), batch_tokens=3000)
    found = list((launch_ahead(tight) if is_ahead else tight).score_stream(calls()))
    assert_same(found, expected)
    assert full.refused
    assert len(full.refused) <= 4, "what was learned on the first batch holds for the others"
    assert tight.batch_tokens <= 1500
    assert sum(scores.batches for scores in found) > 3


def test_one_prompt_that_never_fits(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    Full(monkeypatch, rows=50)
    with pytest.raises(InputError, match="a prompt of 120 tokens does not fit into the memory of device 'cpu'"):
        engine.score([list(range(120))], [[[33]]])


def test_other_errors_stay_errors(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Model, "final_hidden", broken)
    with pytest.raises(RuntimeError, match="illegal"):
        engine.score([[1, 2]], [[[33]]])


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: 8 GB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_running_out_of_memory_looks_like(error: BaseException, is_it: bool) -> None:
    assert is_out_of_memory(error) is is_it


def test_weights_that_do_not_fit(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("preftree.engine.opening.ResidentWeights", no_room)
    with pytest.raises(InputError, match="the weights do not fit into the memory of device 'cpu'"):
        Engine.load(str(directory))
