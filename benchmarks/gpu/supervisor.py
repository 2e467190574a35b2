"""Watches over the worker: ends it in time, and starts another one when it crashed or hung. Never imports torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.gpu.outcome import NOT_FINISHED
from benchmarks.gpu.report import JSON_NAME, ROOT, Report, StepRecord

# Exit codes of a worker. TOLD: it has said all there is to say. DEVICE_BROKEN: another process may go on.
TOLD, DEVICE_BROKEN = 16, 17
MOST_WORKERS = 8
TIME_UP = "the time was up"
POLL_SECONDS = 0.2


def supervise(command: Sequence[str], directory: Path, deadline: float) -> int:
    """Run `command`, a worker on the report in `directory`, and others after it, until all is done or the time is up.

    deadline: seconds since the epoch. Returns 0 when a worker came to the end of its steps,
    TOLD when one has said why not, else 1.
    """
    for _ in range(MOST_WORKERS):
        process = subprocess.Popen(command, cwd=ROOT, process_group=0)
        try:
            reason = _watch(process, directory, deadline)
        finally:
            _end(process)
        if process.returncode in (0, TOLD):
            return process.returncode
        lost = _note_lost(directory, reason)
        print(f"benchmarks.gpu: {reason}, {lost or 'in no step'}", file=sys.stderr, flush=True)
        # A worker that ends outside of any step would do so again.
        if time.time() >= deadline or not (lost or process.returncode == DEVICE_BROKEN):
            return 1
    return 1


def _watch(process: subprocess.Popen[bytes], directory: Path, deadline: float) -> str:
    """Wait until the process ends by itself or has to be ended, and say why."""
    while process.poll() is None:
        if time.time() >= deadline:
            return TIME_UP
        running = _running(directory)
        if running is not None and time.time() > _last_sign(directory, running) + running.limit:
            return f"no end after {running.limit:.0f} s"
        time.sleep(POLL_SECONDS)
    return f"its process ended with code {process.returncode}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """The worker and whatever it started; nobody else is in its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _running(directory: Path) -> StepRecord | None:
    try:
        report = Report.load(directory)
    except (OSError, ValueError):
        return None
    return next((step for step in report.steps if step.status == "running"), None)


def _last_sign(directory: Path, running: StepRecord) -> float:
    """When the step began; later where a worker that cannot write its report has touched the old one."""
    try:
        return max(running.began, (directory / JSON_NAME).stat().st_mtime)
    except OSError:
        return running.began


def _note_lost(directory: Path, reason: str) -> str | None:
    """Close the step that the worker was in, if any; returns its title."""
    report = Report.load(directory)
    for step in report.steps:
        if step.status == "running":
            step.status = NOT_FINISHED if reason == TIME_UP else "lost"
            step.note, step.seconds = reason, time.time() - step.began
            report.try_save()
            return step.title
    return None
