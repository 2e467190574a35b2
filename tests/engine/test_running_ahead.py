"""Work done ahead by another thread: the same items, in order, and nothing left behind."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from preftree.engine.scoring.prefetch import ahead


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "preftree-planner"]


def test_items_come_in_order_from_another_thread() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in range(50):
            made.append(threading.current_thread().name)
            yield number

    assert list(ahead(items(), 3)) == list(range(50))
    assert set(made) == {"preftree-planner"}
    assert names() == []


def test_no_more_are_made_than_asked_for() -> None:
    """Catches a queue without bounds: a whole job tokenised into memory."""
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    stream = ahead(items(), 2)
    assert next(stream) == 0
    deadline = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    # One taken, two waiting, one in the thread's hands.
    assert len(made) == 4
    stream.close()  # type: ignore[attr-defined]


def test_an_error_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("third")

    stream = ahead(items(), 5)
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(stream)
    assert names() == []


def test_whoever_stops_early_leaves_nothing_behind() -> None:
    """Catches a thread that waits for ever, and a file that an abandoned reader keeps open."""
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.append(threading.current_thread().name)

    interval = sys.getswitchinterval()
    stream = ahead(items(), 2)
    assert next(stream) == 0
    assert sys.getswitchinterval() < interval
    stream.close()  # type: ignore[attr-defined]
    assert names() == []
    assert closed == ["preftree-planner"]
    assert sys.getswitchinterval() == interval
