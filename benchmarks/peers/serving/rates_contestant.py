"""What matrix products reach on this machine right now, by type."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.machine import Roofline
from preftree.engine.checkpoint import open_checkpoint


class RatesContestant:
    def __init__(self, job: dict[str, Any]) -> None:
        self._config = open_checkpoint(job["model"]).config
        self._rooflines: dict[str, Roofline] = {}
        self.facts: dict[str, Any] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        dtype = request["dtype"]
        if dtype not in self._rooflines:
            self._rooflines[dtype] = Roofline(self._config, dtype)
        return asdict(self._rooflines[dtype].measure())


def open_contestant(job: dict[str, Any]) -> RatesContestant:
    return RatesContestant(job)
