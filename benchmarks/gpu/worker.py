"""Takes the steps one by one; what goes wrong in one of them is noted, and the next one runs."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence

import torch

from benchmarks.gpu.device import Device
from benchmarks.gpu.outcome import NOT_FINISHED
from benchmarks.gpu.report import StepRecord, first_line
from benchmarks.gpu.session import NotHereError, Session, Step
from benchmarks.gpu.supervisor import DEVICE_BROKEN


def work(session: Session, steps: Sequence[Step]) -> int:
    """Run what no earlier worker has run. Returns an exit code, DEVICE_BROKEN where the device answers no longer."""
    session.report.planned = [step.title for step in steps]
    for step in steps:
        if session.report.step(step.title) is not None:
            continue
        record = StepRecord(step.title, "running", began=time.time(), limit=step.limit)
        session.report.steps.append(record)
        if session.seconds_left < step.seconds:
            record.status = NOT_FINISHED
            record.note = f"takes about {step.seconds:.0f} s, {max(0, session.seconds_left):.0f} s were left"
            session.report.try_save()
            continue
        session.report.try_save()
        with session.clocks.during() as record.clocks:
            _take(session, step, record)
        record.seconds = time.time() - record.began
        session.report.try_save()
        print(f"{record.seconds:6.1f} s  {step.title}: {record.status} {record.note}", file=sys.stderr, flush=True)
        if record.status == "failed" and not _answers(session.device):
            record.note += "; the device answered no longer, a new process went on"
            session.report.try_save()
            return DEVICE_BROKEN
    session.report.facts["clocks sampled by"] = session.clocks.source
    session.report.try_save()
    return 0


def _take(session: Session, step: Step, record: StepRecord) -> None:
    try:
        record.section = step.action(session)
        record.status = NOT_FINISHED if record.section.is_cut else "done"
    except NotHereError as error:
        record.status, record.note = "skipped", str(error)
    except Exception as error:  # whatever it is, the other steps are worth running
        record.status, record.note = "failed", first_line(error)
        session.report.add_error(step.title, traceback.format_exc())
    try:
        if record.status == "failed":
            session.models.drop()  # they may be what the device has no room for
        session.device.release()
    except RuntimeError as error:  # asynchronous errors of the step's kernels come up here
        record.status, record.note = "failed", record.note or first_line(error)


def _answers(device: Device) -> bool:
    """After an illegal access a CUDA context gives nothing but errors."""
    try:
        device.synchronize()
        return torch.ones(1, device=device.torch_device).item() == 1
    except RuntimeError:
        return False
