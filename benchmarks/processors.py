"""Processor seconds of this process and its children, by kind, and what all others on the machine took meanwhile."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import NamedTuple

import psutil

from preftree.engine.errors import InputError

_SECONDS_BETWEEN_LOOKS = 0.5
_KINDS = ("driver", "workers", "ray")
_WORKERS = ("ray::", "default_worker.py")  # in the command line of Ray's processes that run actors


class Look(NamedTuple):
    """What was counted up to a moment.

    Attributes:
        when: in seconds since 1970.
        machine: processor seconds of everybody.
        own: of this process ("driver"), processes that run actors ("workers"), and the rest of Ray ("ray").
    """

    when: float
    machine: float
    own: dict[str, float]


class Processors:
    """Counts while it is a context, in a thread whose own time is left out."""

    def __init__(self) -> None:
        self._looks: list[Look] = []
        self._seconds: dict[int, tuple[str, float]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Processors:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def between(self, start: float, end: float) -> dict[str, float]:
        """Seconds of each kind, and `others`: the share of all cores that everybody else took. Times since 1970."""
        looks = [look for look in self._looks if start <= look.when <= end]
        if len(looks) < 2:
            raise InputError(f"a run of less than {3 * _SECONDS_BETWEEN_LOOKS} s cannot be measured; give it more rows")
        first, last = looks[0], looks[-1]
        own = {kind: last.own[kind] - first.own[kind] for kind in _KINDS}
        others = last.machine - first.machine - sum(own.values())
        cores = psutil.cpu_count() or 1
        # Of the time between two looks; what is missing at both ends is as the rest.
        stretched = (end - start) / (last.when - first.when)
        return {
            **{kind: seconds * stretched for kind, seconds in own.items()},
            "others": max(others, 0.0) / (cores * (last.when - first.when)),
        }

    def _watch(self) -> None:
        own = psutil.Process()
        while True:
            self._look(own)
            if self._stop.wait(_SECONDS_BETWEEN_LOOKS):
                return

    def _look(self, own: psutil.Process) -> None:
        """Of a process that has ended, what it took stays as it was last seen."""
        times = own.cpu_times()
        self._seconds[own.pid] = "driver", times.user + times.system - time.thread_time()
        for child in own.children(recursive=True):
            try:
                times, command = child.cpu_times(), " ".join(child.cmdline())
            except psutil.Error:
                continue
            kind = "workers" if any(name in command for name in _WORKERS) else "ray"
            self._seconds[child.pid] = kind, times.user + times.system
        sums: dict[str, float] = dict.fromkeys(_KINDS, 0.0)
        for kind, seconds in self._seconds.values():
            sums[kind] += seconds
        machine = psutil.cpu_times()
        busy = sum(machine[:3]) + machine.irq + machine.softirq
        self._looks.append(Look(time.time(), busy, sums))
