"""The same function on many tasks in parallel processes; what fails or takes too long is told, not raised."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, wait
from typing import TypeVar

from benchmarks.gpu.report import first_line

Task = TypeVar("Task")
Result = TypeVar("Result")
LATE = "not finished in time"


def run_all(
    function: Callable[[Task], Result], tasks: Iterable[Task], jobs: int, seconds: float
) -> tuple[dict[Task, Result], dict[Task, str]]:
    """Results by task, and one line for every task without a result.

    Processes are started afresh, since a copy of one that has a CUDA context might hang, and none outlives the call.
    """
    before = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    waiting: dict[Future[Result], Task] = {executor.submit(function, task): task for task in tasks}
    done, late = wait(waiting, timeout=max(0.0, seconds))
    executor.shutdown(wait=not late, cancel_futures=True)
    for process in set(multiprocessing.active_children()) - before:
        process.kill()
    results: dict[Task, Result] = {}
    problems = dict.fromkeys((waiting[future] for future in late), LATE)
    for future in done:
        error = future.exception()
        if error is None:
            results[waiting[future]] = future.result()
        else:
            problems[waiting[future]] = first_line(error)
    return results, problems
