"""Chunks of rows on several threads: in the order that they depend on each other, and no further."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from preftree.engine.model.workers import Stage, run_stages


@pytest.fixture(autouse=True, params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_a_chunk_follows_those_before_it(threads: int) -> None:
    """Catches a chunk that begins before its own rows, rows above it, or the stage before last are through, and a
    stage that does not wait for all of the one before."""
    lock, done, wrong = threading.Lock(), set[tuple[int, int]](), list[tuple[int, int]]()
    counts, waiting = [6, 6, 1, 6, 6, 2, 6, 6], 7

    def task(stage: int, chunk: int) -> None:
        with lock:
            before = {(stage - 1, other) for other in range(counts[stage - 1])} if stage else set()
            if stage and counts[stage] == counts[stage - 1] and stage != waiting:
                before = {(one, other) for one, other in before if other <= chunk}
            earlier = {(stage - 2, other) for other in range(counts[stage - 2])} if stage > 1 else set()
            if not before | earlier <= done:
                wrong.append((stage, chunk))
        torch.ones(300, 300) @ torch.ones(300, 300 + 50 * chunk)
        with lock:
            done.add((stage, chunk))

    run_stages(Stage(partial(task, stage), count, waits=stage == waiting) for stage, count in enumerate(counts))
    assert not wrong
    assert len(done) == sum(counts)


def test_threads_work_side_by_side(threads: int) -> None:
    """As many chunks at once as torch has threads, each with a single thread of torch's own."""
    together, seen = threading.Barrier(threads), list[int]()

    def task(_: int) -> None:
        together.wait(timeout=60)
        seen.append(torch.get_num_threads())

    run_stages(iter([Stage(task, threads)]))
    assert seen == [1] * threads
    assert torch.get_num_threads() == threads


def test_new_threads_of_others_keep_torchs_number(threads: int) -> None:
    run_stages(iter([Stage(lambda _: None, 2)]))
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [threads]


def test_an_error_ends_the_pass(threads: int) -> None:
    """Catches a pass that waits for ever for the chunk that failed, and one that works on."""
    ran: list[int] = []

    def task(chunk: int) -> None:
        ran.append(chunk)
        if chunk == 2:
            raise MemoryError("chunk 2")

    with pytest.raises(MemoryError, match="chunk 2"):
        run_stages(Stage(task, 50) for _ in range(100))
    assert len(ran) < 60
