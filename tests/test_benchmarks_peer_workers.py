"""Contestants of benchmarks.peers as processes, which may die, hang or talk nonsense: one clear line each."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import worker
from benchmarks.peers.answer import Answer
from benchmarks.peers.worker import Worker, WorkerError

ROOT = Path(__file__).parent.parent


def worker_of(tmp_path: Path, code: str) -> Worker:
    """A worker that runs `code`, in a process that starts fast."""
    return Worker.start("vllm", [sys.executable, "-S", "-c", code], tmp_path, tmp_path / "log")


READY = 'import os, sys; print(\'{"ready": true, "version": "1.0"}\', flush=True); sys.stdin.readline(); '


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('vLLM 0.32 says hello')", "vllm answered with something else than JSON: 'vLLM 0.32 says hello'"),
        ("print('[1]')", "vllm answered with something else than JSON: '[1]'"),
        ("raise SystemExit('no torch')", "vllm ended with code 1: no torch"),
        ("pass", "vllm ended with code 0: it wrote nothing"),
        ('print(\'{"error": "the model is broken"}\')', "vllm: the model is broken"),
        (READY + "sys.exit('out of ideas')", "vllm ended with code 1: out of ideas"),
        (READY + "os.kill(os.getpid(), 9)", "vllm was killed by signal 9: it wrote nothing"),
        (READY + 'print(\'{"error": "KeyError"}\')', "vllm: KeyError"),
        (READY + "print('x' * 10_000)", f"vllm answered with something else than JSON: '{'x' * 200}'"),
    ],
)
def test_a_worker_that_fails_is_one_line(code: str, said: str, tmp_path: Path) -> None:
    def started_and_asked() -> None:
        with worker_of(tmp_path, code) as started:
            assert started.facts == {"version": "1.0"}
            started.ask({"workload": "2"})

    with pytest.raises(WorkerError) as caught:
        started_and_asked()
    assert str(caught.value) == said


def test_a_worker_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "RUN_SECONDS", 0.2)
    with worker_of(tmp_path, READY + "sys.stdin.readline()") as started:
        with pytest.raises(WorkerError, match="vllm did not answer within 0 s"):
            started.ask({})
        with pytest.raises(WorkerError, match="vllm was killed by signal 9"):
            started.ask({})


def test_an_interpreter_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"vllm does not start: /nowhere/python: No such file"):
        Worker.start("vllm", ["/nowhere/python"], tmp_path, tmp_path / "log")


MODULE = """
from preftree.engine.errors import InputError

class Chatty:
    facts = {"version": "2"}

    def answer(self, request):
        print("progress: 100%")
        if request["do"] == "refuse":
            raise InputError("int8 does not run here")
        return {"twice": 2 * request["number"]}

def open_contestant(job):
    print("loading", job["model"])
    return Chatty()
"""


def test_what_libraries_print_does_not_disturb_the_replies(tmp_path: Path) -> None:
    """Nor does a request that fails end the worker."""
    (tmp_path / "chatty.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "job.json").write_text('{"model": "tiny"}', encoding="utf-8")
    start = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from benchmarks.peers.serving.serve import main; "
    command = [sys.executable, "-c", start + f"main('chatty', {str(tmp_path / 'job.json')!r})"]
    with Worker.start("chatty", command, ROOT, tmp_path / "log") as started:
        assert started.facts == {"version": "2"}
        with pytest.raises(WorkerError, match=r"^chatty: int8 does not run here$"):
            started.ask({"do": "refuse"})
        with pytest.raises(WorkerError, match=r"^chatty: KeyError: 'number'$"):
            started.ask({"do": "double"})
        reply = started.ask({"do": "double", "number": 21})
    assert reply["twice"] == 42
    assert 1e6 < reply["peak_bytes"] < 1e11
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert "loading tiny" in log
    assert "progress: 100%" in log


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({}, "without seconds"),
        ({"seconds": 1, "peak_bytes": 1, "logprobs": [["a", "b"]]}, "without seconds"),
        ({"seconds": 1, "peak_bytes": 1, "logprobs": [[0, 0]]}, r"\(1, 2\) log-probabilities of 2 prompts"),
        ({"seconds": 1, "peak_bytes": 1, "logprobs": [[0, 0], [0, math.nan]]}, "not finite"),
    ],
)
def test_an_answer_that_is_none(reply: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkerError, match=said):
        Answer("vllm", reply, 2)
