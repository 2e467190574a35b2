"""The contestants that run here, each in its process, and why others do not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.machine import Rates
from benchmarks.peers.answer import Answer
from benchmarks.peers.contestants import ROOT, Contestant, NotInstalledError, module_command
from benchmarks.peers.settings import Setting
from benchmarks.peers.worker import Worker, WorkerError
from benchmarks.workloads import Workload

RATES = "benchmarks.peers.serving.rates_contestant"


class Field:
    """Running contestants. A context manager that ends their processes.

    Attributes:
        left_out: by name of a contestant that does not run, the reason.
    """

    def __init__(self, scratch: Path, logs: Path, say: Callable[[str], None]) -> None:
        """scratch: a directory for files that workers read and write. logs: one for what they print."""
        self.left_out: dict[str, str] = {}
        self._scratch = scratch
        self._logs = logs
        self._say = say
        self._workers: dict[Contestant, Worker] = {}
        self._rates: Worker | None = None

    def start(self, contestants: Iterable[Contestant], job: Mapping[str, Any]) -> None:
        """Start all that can be, one after the other. job: what every worker is told, see `job_of`.

        Raises WorkerError when one of preftree that the others are compared with does not run.
        """
        self._rates = self._started("rates", lambda path: module_command(RATES, path), job)
        for contestant in contestants:
            its_own = {**job, "dtype": contestant.dtype, "family": contestant.family}
            self._say(f"loading {contestant.name}")
            try:
                self._workers[contestant] = self._started(contestant.name, contestant.command, its_own)
            except (WorkerError, NotInstalledError) as error:
                self.drop(contestant, error)

    @property
    def present(self) -> list[Contestant]:
        return list(self._workers)

    @property
    def facts(self) -> dict[str, dict[str, Any]]:
        """By name, what contestants say of themselves."""
        return {contestant.name: worker.facts for contestant, worker in self._workers.items() if worker.facts}

    def drop(self, contestant: Contestant, error: Exception) -> None:
        """Leave `contestant` out from now on. Raises `error` where nothing could be said without it."""
        if contestant.is_reference:
            raise error
        self.left_out[contestant.name] = str(error)
        self._say(f"left out: {error}")
        if worker := self._workers.pop(contestant, None):
            worker.close()

    def run(self, contestant: Contestant, setting: Setting, workload: Workload) -> Answer:
        """One run of the prompts of `workload`, whose first pairs the contestant's job holds. Raises WorkerError."""
        request = {
            "workload": workload.name,
            "prompts": len(workload.prompts),
            "setting": setting.of(workload.prompts),
        }
        reply = self._workers[contestant].ask(request)
        return Answer(contestant.name, reply, len(workload.prompts))

    def rates(self, dtype: str) -> Rates:
        """What matrix products reach right now. Raises WorkerError."""
        assert self._rates is not None
        reply = self._rates.ask({"dtype": dtype})
        return Rates(reply["matrix"], reply["layer"], reply["layer_call"])

    def __enter__(self) -> Field:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in [*self._workers.values(), *([self._rates] if self._rates else [])]:
            worker.close()

    def _started(self, name: str, command: Callable[[Path], list[str]], job: Mapping[str, Any]) -> Worker:
        path = self._scratch / f"{name}.json"
        path.write_text(json.dumps({**job, "scratch": str(self._scratch)}), encoding="utf-8")
        return Worker.start(name, command(path), ROOT, self._logs / f"{name}.log")


def job_of(model: str, directory: Path | None, workloads: Iterable[Workload]) -> dict[str, Any]:
    """What every worker is told. directory: `model` as a Hugging Face directory, for those that read no other."""
    columns = {
        workload.name: {
            "ids": workload.ids,
            "labels": workload.labels,
            "pair": [prompt.pair for prompt in workload.prompts],
            "order": [prompt.order for prompt in workload.prompts],
        }
        for workload in workloads
    }
    return {"model": model, "directory": str(directory), "workloads": columns}
