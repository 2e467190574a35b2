"""Threads that compute side by side, each on one core: stages of a forward pass, chunk by chunk.

torch's own threads split every single operation. Those are short here, and all of them wait for the slowest: a busy
neighbour on one core made them wait thousands of times a batch. A chunk of rows is a task of milliseconds whose
activations stay in the cache of the core that works on it.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import torch
from torch.autograd import profiler


@dataclass(frozen=True)
class Stage:
    """What is done to `chunks` chunks of rows, in any order.

    Chunk i may begin once chunks 0 to i of the stage before are done, where both have equally many: in preorder, a row
    depends on itself and on rows before it. Else, or where it `waits`, it begins after the whole stage. All of the
    stage before that one are done.

    then: called once all of them are, before a stage after the next one is asked for.
    """

    run: Callable[[int], object]
    chunks: int
    waits: bool = False
    then: Callable[[], object] | None = None


def run_stages(stages: Iterator[Stage]) -> None:
    """Run every chunk of every stage, on as many threads as torch has. Raises what a chunk raises.

    While torch's profiler runs, the calling thread does everything: the profiler sees no other.
    """
    threads = torch.get_num_threads()
    progress = _Progress(stages)
    if threads == 1 or profiler._is_profiler_enabled:
        torch.set_num_threads(1)
        try:
            progress.work()
        finally:
            torch.set_num_threads(threads)
    else:
        pool = _pool(threads, os.getpid())
        running = [pool.submit(progress.work) for _ in range(threads)]
        try:
            wait(running)
        finally:
            progress.stop()
            wait(running)
    if progress.error is not None:
        raise progress.error


@functools.cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """For all models of this process, which share its cores. `process`: threads do not survive a fork."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="preftree")
    together = threading.Barrier(threads)

    def start() -> None:
        torch.get_num_threads()  # the first call in a thread sets the number that all have
        torch.set_num_threads(1)
        together.wait()

    wait([pool.submit(start) for _ in range(threads)])
    # torch keeps the number for the thread that sets it, and also for threads that it meets from then on.
    torch.set_num_threads(threads)
    return pool


@dataclass
class _Counts:
    """One stage: taken, how many chunks have begun; done, which are finished; prefix, how many of the first are."""

    stage: Stage
    taken: int = 0
    prefix: int = 0
    done: set[int] = field(default_factory=set)

    def finish(self, chunk: int) -> None:
        self.done.add(chunk)
        while self.prefix in self.done:
            self.done.remove(self.prefix)
            self.prefix += 1

    @property
    def is_complete(self) -> bool:
        return self.prefix == self.stage.chunks


class _Progress:
    """Chunks are taken in order, stage after stage, by whoever is free."""

    def __init__(self, stages: Iterator[Stage]) -> None:
        self.error: BaseException | None = None
        self._stages = stages
        self._changed = threading.Condition()
        self._is_stopped = False
        self._recent: list[_Counts] = []  # the last three stages, the newest last

    def stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    @torch.inference_mode()
    def work(self) -> None:
        try:
            while (task := self._next()) is not None:
                counts, chunk = task
                counts.stage.run(chunk)
                with self._changed:
                    counts.finish(chunk)
                    if counts.is_complete and counts.stage.then is not None:
                        counts.stage.then()
                    self._changed.notify_all()
        except BaseException as error:
            self.error = self.error or error
            self.stop()

    def _next(self) -> tuple[_Counts, int] | None:
        with self._changed:
            if self._is_stopped:
                return None
            while not self._recent or self._recent[-1].taken == self._recent[-1].stage.chunks:
                # No chunk of the next stage could begin earlier, and its weights may take the place of theirs.
                if not all(counts.is_complete for counts in self._recent[:-1]):
                    if self._waits_in_vain():
                        return None
                    continue
                stage = next(self._stages, None)
                if stage is None:
                    return None
                self._recent = [*self._recent[-2:], _Counts(stage)]
            *before, counts = self._recent
            chunk, counts.taken = counts.taken, counts.taken + 1
            while not self._may_begin(before, counts, chunk) and not self._is_stopped:
                self._changed.wait()
            return None if self._is_stopped else (counts, chunk)

    def _waits_in_vain(self) -> bool:
        """Until something has changed. True where that is the end."""
        self._changed.wait()
        return self._is_stopped

    @staticmethod
    def _may_begin(before: list[_Counts], counts: _Counts, chunk: int) -> bool:
        if not before:
            return True
        previous = before[-1]
        follows = previous.stage.chunks == counts.stage.chunks and not counts.stage.waits
        is_ready = previous.prefix > chunk if follows else previous.is_complete
        return is_ready and all(earlier.is_complete for earlier in before[:-1])
