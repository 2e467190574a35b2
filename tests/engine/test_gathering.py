"""Calls of several threads: each gets its own answer, and those that wait are run together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from preftree import Engine, InputError
from preftree.engine.gathering import Gathering
from tests.engine.test_engine_scores import LABELS, prompts_of


class Slow:
    """Doubles numbers. The first call waits until `others` more have come; a zero is an error."""

    def __init__(self, others: int) -> None:
        self.served: list[list[int]] = []
        self.coming = others
        self.all_there = threading.Event()

    def __call__(self, asked: Sequence[int]) -> list[int]:
        self.served.append(list(asked))
        if len(self.served) == 1 and self.coming:
            assert self.all_there.wait(20)
        if 0 in asked:
            raise InputError(f"zero among {len(asked)}")
        return [2 * number for number in asked]


def asked_together(gathering: Gathering[int, int], slow: Slow, numbers: Sequence[int]) -> list[int | Exception]:
    """The first number is being served when the others come."""

    def result(number: int) -> int | Exception:
        try:
            return gathering(number)
        except InputError as error:
            return error

    with ThreadPoolExecutor(len(numbers)) as pool:
        first = pool.submit(result, numbers[0])
        until(lambda: len(slow.served) == 1)
        others = [pool.submit(result, number) for number in numbers[1:]]
        until(lambda: len(gathering._waiting) == len(numbers) - 1)
        slow.all_there.set()
        return [future.result(20) for future in (first, *others)]


def until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_those_that_wait_are_served_together() -> None:
    slow = Slow(others=5)
    assert asked_together(Gathering(slow), slow, [1, 2, 3, 4, 5, 6]) == [2, 4, 6, 8, 10, 12]
    assert [len(asked) for asked in slow.served] == [1, 5]


def test_an_error_reaches_its_own_caller_only() -> None:
    slow = Slow(others=3)
    found = asked_together(Gathering(slow), slow, [1, 2, 0, 3])
    assert [found[0], found[1], found[3]] == [2, 4, 6]
    assert str(found[2]) == "zero among 1"


def test_an_interrupted_caller_leaves_the_others_theirs() -> None:
    """Ctrl-C in the thread that was about to serve everyone."""
    answers: list[int] = []

    def serve(asked: Sequence[int]) -> list[int]:
        if not answers and not started.is_set():
            started.set()
            until(lambda: len(gathering._waiting) == 1)
            raise KeyboardInterrupt
        return [2 * number for number in asked]

    started = threading.Event()
    gathering: Gathering[int, int] = Gathering(serve)

    def other() -> None:
        assert started.wait(20)
        answers.append(gathering(21))

    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        gathering(1)
    thread.join(20)
    assert answers == [42]


def test_an_engine_in_threads(embedded_engine: Engine) -> None:
    """The bits of a call alone, its own shape, and rows that are counted once."""
    calls = [(prompts_of(2, seed), [LABELS if seed % 2 else LABELS[:1]] * 2) for seed in range(4)]
    alone = [embedded_engine.score(*call) for call in calls]
    with ThreadPoolExecutor(len(calls)) as pool:
        found = list(pool.map(lambda call: embedded_engine.score(*call), calls))
    for one, other in zip(alone, found, strict=True):
        assert np.array_equal(one.logprob, other.logprob, equal_nan=True)
        assert np.array_equal(one.logit, other.logit, equal_nan=True)
        assert np.array_equal(one.label_mass, other.label_mass)
        assert one.prompt_tokens == other.prompt_tokens
    assert sum(scores.batches for scores in found) <= len(calls)


def test_a_bad_call_beside_others_names_its_own_prompt(embedded_engine: Engine) -> None:
    good, bad = (prompts_of(2, 1), [LABELS] * 2), ([[1, 2], [3, 10**6]], [LABELS] * 2)
    with pytest.raises(InputError, match="prompt 1 has token ids outside"):
        embedded_engine._joint.score_all([good, bad], prefix_cache=True)
    found = embedded_engine._joint.score_all([good, ([], []), good], prefix_cache=True)
    assert [len(scores.logprob) for scores in found] == [2, 0, 2]
    found = embedded_engine._joint.score_all([([], []), good], prefix_cache=True)
    assert [scores.batches for scores in found] == [1, 0], "counted once, be the first call empty"
