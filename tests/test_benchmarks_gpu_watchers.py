"""The watchers of the evidence run for GPUs: they have to work the first time, whatever a step or a worker does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.gpu.device import Device, Rehearsal
from benchmarks.gpu.models import Models
from benchmarks.gpu.report import Report, Section
from benchmarks.gpu.session import NotHereError, Session, Step
from benchmarks.gpu.sizes import REHEARSAL
from benchmarks.gpu.supervisor import DEVICE_BROKEN, supervise
from benchmarks.gpu.worker import work


def session_of(directory: Path, seconds_left: float = 60.0, device: Device | None = None) -> Session:
    device = device or Rehearsal()
    report = Report(directory, is_rehearsal=True)
    return Session(device, REHEARSAL, report, Models(device, REHEARSAL), time.time() + seconds_left)


def say(line: str) -> Callable[[Session], Section]:
    return lambda session: Section(lines=[line], data={"said": line})


def fail(error: Exception) -> Callable[[Session], Section]:
    def action(session: Session) -> Section:
        raise error

    return action


def test_a_failing_step_is_noted_and_the_next_one_runs(tmp_path: Path) -> None:
    steps = [
        Step("breaks", 1, fail(ValueError("no such thing\nand more"))),
        Step("too large", 1, fail(NotHereError("needs 40 GB, the device has 24 GB"))),
        Step("works", 1, say("fine")),
    ]
    assert work(session_of(tmp_path), steps) == 0
    report = Report.load(tmp_path)
    assert [(step.status, step.note) for step in report.steps] == [
        ("failed", "ValueError: no such thing"),
        ("skipped", "needs 40 GB, the device has 24 GB"),
        ("done", ""),
    ]
    assert report.data("works") == {"said": "fine"}
    assert "Traceback" in (tmp_path / "errors.txt").read_text(encoding="utf-8")
    assert "fine" in (tmp_path / "gpu.md").read_text(encoding="utf-8")


def test_the_deadline_skips_what_does_not_fit(tmp_path: Path) -> None:
    steps = [Step("long", 100, say("never")), Step("short", 5, say("still"))]
    assert work(session_of(tmp_path, seconds_left=50), steps) == 0
    long, short = Report.load(tmp_path).steps
    assert (long.status, short.status) == ("not finished", "done")
    assert long.note in ("takes about 100 s, 49 s were left", "takes about 100 s, 50 s were left")


def test_a_broken_device_ends_the_worker_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """An illegal access leaves a CUDA context that answers with errors only."""

    class Broken(Rehearsal):
        def synchronize(self) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    steps = [Step("breaks", 1, fail(RuntimeError("CUDA error"))), Step("works", 1, say("fine"))]
    session = session_of(tmp_path, device=Broken())
    assert work(session, steps) == DEVICE_BROKEN
    assert [step.title for step in Report.load(tmp_path).steps] == ["breaks"]
    again = session_of(tmp_path)
    again.report = Report.load(tmp_path)
    assert work(again, steps) == 0
    assert [step.status for step in Report.load(tmp_path).steps] == ["failed", "done"]


# Workers that never import torch. The first takes a step and dies or hangs in it, the second finds it noted.
WORKER = """
import os, sys, time
from pathlib import Path
from benchmarks.gpu.report import Report, StepRecord
report = Report.load(Path({directory!r}))
if report.steps and not {always}:
    report.steps.append(StepRecord("second", "done"))
    report.save()
    sys.exit(0)
report.steps.append(StepRecord("first", "running", began=time.time(), limit={limit}))
report.save()
{fate}
"""


def supervised(directory: Path, fate: str, limit: float = 60, seconds: float = 30, always: bool = False) -> int:
    Report(directory, is_rehearsal=True).save()
    code = WORKER.format(directory=str(directory), fate=fate, limit=limit, always=always)
    return supervise([sys.executable, "-c", code], directory, time.time() + seconds)


@pytest.mark.parametrize(
    ("fate", "limit", "note"),
    [
        ("os.abort()", 60, "its process ended with code -6"),
        ("os._exit(3)", 60, "its process ended with code 3"),
        ("time.sleep(60)", 0.5, "no end after 0 s"),
    ],
)
def test_a_worker_that_crashes_or_hangs_is_replaced(tmp_path: Path, fate: str, limit: float, note: str) -> None:
    assert supervised(tmp_path, fate, limit) == 0
    first, second = Report.load(tmp_path).steps
    assert (first.status, first.note, second.status) == ("lost", note, "done")


def test_the_time_is_up_whatever_the_worker_does(tmp_path: Path) -> None:
    started = time.time()
    assert supervised(tmp_path, "time.sleep(60)", seconds=1, always=True) == 1
    assert time.time() - started < 30
    (step,) = Report.load(tmp_path).steps
    assert (step.status, step.note) == ("not finished", "the time was up")


def test_a_worker_that_never_starts_is_not_tried_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Report(tmp_path, is_rehearsal=True).save()
    assert supervise([sys.executable, "-c", "raise SystemExit(1)"], tmp_path, time.time() + 30) == 1
    assert capfd.readouterr().err.count("its process ended with code 1") == 1
