"""Steps launched before the tokens of the one before are read: the same answers, and no other wait for the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from preftree import Engine, RationaleScores, Sampling
from preftree.engine.decoding import decoder, stepper
from preftree.engine.decoding.sampler import next_tokens
from preftree.engine.decoding.sequence import Sequence as Decoded
from preftree.engine.decoding.stopping import StopRule
from preftree.engine.model.transfer import HostCopies
from preftree.engine.planning.forced_tail import ForcedTail
from preftree.engine.planning.steps import ON_DEVICE
from preftree.engine.planning.trie import as_token_ids
from tests.engine.test_decoding import ENDING, FORCED_ROWS, kv_memory_of
from tests.engine.test_engine_scores import LABELS, prompts_of

# Hot, so that control tokens and texts end sequences everywhere: at the first token, in between, at the last, never.
DRAWN = Sampling(max_new_tokens=5, temperature=5.0, n=9, stop=("a", "e", "th"), seed=5)
PROMPTS = prompts_of(4, seed=3)


Run = Callable[..., RationaleScores]


@pytest.fixture
def run(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Continuations and labels with so many steps ahead, in as few K/V slots as `slots` says."""

    def decode(ahead: int, sampling: Sampling, dtype: str, slots: int | None = None, **asked: Any) -> RationaleScores:
        monkeypatch.setitem(decoder.STEPS_AHEAD, "cpu", ahead)
        bytes_each = 4 if dtype == "float32" else 2
        kv_memory = None if slots is None else kv_memory_of(directory, slots, bytes_each)
        engine = Engine.load(str(directory), dtype=dtype, kv_memory=kv_memory)
        tails = [ENDING] * len(PROMPTS), [LABELS] * len(PROMPTS)
        question = PROMPTS, *(tails if asked.get("with_tails", True) else (None, None)), asked.get("given")
        (found,) = engine.generate_and_score_stream([question], sampling, asked.get("progress"))
        return found

    return decode


def assert_equal(found: RationaleScores, expected: RationaleScores) -> None:
    assert found.generations == expected.generations
    for name in ("logprob", "logit", "label_mass"):
        assert np.array_equal(getattr(found.scores, name), getattr(expected.scores, name), equal_nan=True), name
    steps = [one.scores.rows - one.prefill_rows for one in (found, expected)]
    assert steps[0] == steps[1], "rows in vain are nobody's"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("max_new_tokens", [1, 5])
def test_both_ways_give_the_same(run: Run, dtype: str, max_new_tokens: int) -> None:
    """Catches a token that is fed to a wrong row, one too many that counts, and an ending behind a row in vain."""
    sampling = replace(DRAWN, max_new_tokens=max_new_tokens)
    expected = run(0, sampling, dtype)
    assert_equal(run(1, sampling, dtype), expected)
    ends = {(one.finish, len(one.ids)) for samples in expected.generations for one in samples}
    assert ends >= {("stop", 0), ("length", max_new_tokens)}


def test_without_endings(run: Run) -> None:
    """Catches a sequence that leaves the batch at its limit before its last token has been read, or never."""
    told: list[tuple[int, int]] = []
    sampling = replace(DRAWN, stop=())
    found = run(1, sampling, "bfloat16", with_tails=False, progress=lambda *news: told.append(news))
    assert_equal(found, run(0, sampling, "bfloat16", with_tails=False))
    assert tuple(map(sum, zip(*told, strict=True))) == (found.generated_tokens, len(PROMPTS) * DRAWN.n)


def test_room_for_one_sequence_and_no_more(run: Run) -> None:
    """Catches a slot beyond a sequence's own, and one given back while a row in vain may still write it."""
    slots = max(map(len, PROMPTS)) + DRAWN.max_new_tokens + len(ENDING) + FORCED_ROWS
    sampling = replace(DRAWN, n=2)
    expected = run(0, sampling, "bfloat16")
    assert_equal(run(1, sampling, "bfloat16", slots), expected)
    assert_equal(run(1, sampling, "bfloat16", 3 * slots), expected)


def test_continuations_that_are_given(run: Run) -> None:
    """Catches a recorded token that is taken for one on the device."""
    then = run(1, DRAWN, "bfloat16")
    given = [[one.ids for one in samples] for samples in then.generations]
    for ahead in (0, 1):
        now = run(ahead, DRAWN, "bfloat16", given=given)
        assert np.array_equal(now.scores.logprob, then.scores.logprob)
        assert [[one.ids for one in samples] for samples in now.generations] == given
    alone = run(1, DRAWN, "bfloat16", given=given, with_tails=False)
    assert [[one.ids for one in samples] for samples in alone.generations] == given


def sequence_of(max_new_tokens: int, with_tail: bool) -> Decoded:
    """Behind a prompt of four tokens; its first token, 50, has been read. Token 2 ends it."""
    tail = ForcedTail.build(as_token_ids(ENDING), [[33], [34]]) if with_tail else None
    path, uniform = np.arange(20), np.arange(max_new_tokens) / 10
    one = Decoded(as_token_ids([5, 6, 7, 8]), 0, path, uniform, tail, StopRule(frozenset([2]), (), str))
    one.take(50)
    return one


def test_rows_go_on_without_their_token() -> None:
    """Catches a depth or a uniform number that waits for a token, and an ending that is run after a row in vain."""
    one = sequence_of(4, with_tail=True)
    seen = []
    for drawn in (None, 51, 2):
        seen.append((one.row.token, one.row.depth, round(one.draws, 1)))
        one.launched()
        if drawn is not None:
            one.take(drawn)
    assert seen == [(50, 4, 0.1), (ON_DEVICE, 5, 0.2), (ON_DEVICE, 6, 0.3)]
    assert one.ids == [50, 51]
    one.take(60)  # what the row in vain drew
    assert (one.ids, one.finish, one.num_rows) == ([50, 51], "stop", 2)
    assert (one.row.token, one.row.depth) == (ENDING[0], 6), "in the slot of the row in vain"


def test_the_limit_is_known_without_the_token() -> None:
    """Catches a row beyond the last slot, and a last token that is never run for its K/V."""
    alone, led = sequence_of(2, with_tail=False), sequence_of(2, with_tail=True)
    for one in (alone, led):
        one.launched()
    assert not alone.has_row
    assert not alone.is_done
    alone.take(51)
    assert (alone.is_done, alone.ids, alone.finish) == (True, [50, 51], "length")
    assert (led.row.token, led.row.depth, led.draws) == (ON_DEVICE, 5, 0.0)
    led.launched()
    led.take(51)
    assert (led.row.token, led.row.depth) == (ENDING[0], 6)


READS = ("numpy", "tolist", "item", "cpu", "__int__", "__float__", "__bool__", "__index__", "__array__")


class OnDevice(torch.Tensor):
    """A tensor whose values are on a device: to look at them is to wait for it."""

    reads: ClassVar[list[str]] = []

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in READS:
            cls.reads.append(function.__name__)
        return super().__torch_function__(function, types, args, kwargs or {})


def test_a_step_is_launched_before_the_one_before_it_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches every wait for the device but one, late: of the step before the one that was just launched."""
    log: list[tuple[str, int]] = []

    def drawn(logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
        return next_tokens(logits, uniform, sampling).as_subclass(OnDevice)

    class Counted(stepper.PathStepper):
        def run(self, sequences: Sequence[Decoded]) -> stepper.Stepped:
            log.append(("launch", len(log)))
            found = super().run(sequences)
            return replace(found, logits=found.logits.as_subclass(OnDevice))

    def waited(copies: HostCopies) -> tuple[torch.Tensor, ...]:
        log.append(("read", len(OnDevice.reads)))
        return tuple(tensor.as_subclass(torch.Tensor) for tensor in copies.tensors)

    monkeypatch.setattr(stepper, "next_tokens", drawn)
    monkeypatch.setattr(stepper, "PathStepper", Counted)
    monkeypatch.setattr(HostCopies, "wait", waited)
    OnDevice.reads.clear()
    sampling = replace(DRAWN, n=7, stop=())  # 28 sequences: all of them start together
    run(1, sampling, "bfloat16")
    if not log:
        pytest.skip("the operations that this processor has for bfloat16 plan every step on the host")
    assert OnDevice.reads == []
    steps = [what for what, _ in log]
    assert len(steps) > 10
    assert steps == ["launch", *["launch", "read"] * (len(steps) // 2 - 1), "read"]
