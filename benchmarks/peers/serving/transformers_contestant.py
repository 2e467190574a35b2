"""transformers in one type, in padded batches or with a prefix cache."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.transformers import candidates, load_transformers
from benchmarks.workloads import JudgePrompt, Workload


class TransformersContestant:
    def __init__(self, job: dict[str, Any]) -> None:
        model = load_transformers(Path(job["directory"]), getattr(torch, job["dtype"]))
        self._workloads = {name: _workload(name, columns) for name, columns in job["workloads"].items()}
        self._peers = {name: candidates(job["family"], model, work) for name, work in self._workloads.items()}
        self.facts: dict[str, Any] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        peer = self._peers[request["workload"]][request["setting"]["candidate"]]
        prompts = self._workloads[request["workload"]].prompts[: request["prompts"]]
        started = time.perf_counter()
        logprobs = peer.score(prompts)
        return {"seconds": time.perf_counter() - started, "logprobs": logprobs.tolist()}


def open_contestant(job: dict[str, Any]) -> TransformersContestant:
    return TransformersContestant(job)


def _workload(name: str, columns: dict[str, list[Any]]) -> Workload:
    rows = zip(columns["ids"], columns["labels"], columns["pair"], columns["order"], strict=True)
    return Workload(name, tuple(JudgePrompt(*row) for row in rows), 0.0)
