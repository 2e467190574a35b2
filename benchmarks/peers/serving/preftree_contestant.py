"""The engine in one type, as a library user has it: OpenMP's threads spin while they wait.

The command line lets them sleep (`openmp.wait_briefly`), which makes it 10 to 20% slower on an idle machine.
"""

from __future__ import annotations

import time
from typing import Any

from preftree.engine.checkpoint import open_checkpoint
from preftree.engine.engine import Engine


class PreftreeContestant:
    def __init__(self, job: dict[str, Any]) -> None:
        self._checkpoint = open_checkpoint(job["model"])
        self._dtype = job["dtype"]
        self._workloads = job["workloads"]
        self._fresh_engine().close()  # a type that does not run here is refused now
        self.facts: dict[str, Any] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        workload, count = self._workloads[request["workload"]], request["prompts"]
        with self._fresh_engine() as engine:
            started = time.perf_counter()
            scores = engine.score(workload["ids"][:count], workload["labels"][:count])
            seconds = time.perf_counter() - started
        return {"seconds": seconds, "logprobs": scores.logprob.tolist()}

    def _fresh_engine(self) -> Engine:
        """With a cold prefix cache; loading is not timed, nor is the first touch of the weights."""
        engine = Engine(self._checkpoint, device="cpu", dtype=self._dtype)
        engine.score([[1, 2, 3, 4]], [[[5]]])
        return engine


def open_contestant(job: dict[str, Any]) -> PreftreeContestant:
    return PreftreeContestant(job)
