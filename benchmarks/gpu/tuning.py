"""Launch settings measured by `python -m benchmarks.kernels.tune`, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.gpu.report import ROOT, Section
from benchmarks.gpu.session import NotHereError, Session

TUNER = "benchmarks.kernels.tune"
LOG_NAME = "tune.txt"
# Most models have heads of this size.
HEAD_SIZES = "128"
# Of the time that is left; compiling and the last measurement may take longer than the tuner is given.
SHARE = 0.75
REFUSED = 2
_LINES = 60


def run(session: Session) -> Section:
    """Its notes and the table that it prints, in the report and in a file."""
    if session.device.is_rehearsal:
        raise NotHereError("the tuner needs a GPU")
    minutes = SHARE * session.seconds_left / 60
    command = [sys.executable, "-m", TUNER, "--minutes", f"{minutes:.2f}", "--head-sizes", HEAD_SIZES]
    limit = max(1.0, session.seconds_left - 5)
    log = session.report.directory / LOG_NAME
    with log.open("w", encoding="utf-8") as file:
        try:
            done = subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=limit)
            code: int | None = done.returncode
        except subprocess.TimeoutExpired:  # it has been killed
            code = None
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if code == REFUSED:
        log.unlink()
        raise NotHereError(lines[-1] if lines else "the tuner refuses to run here")
    if code:
        raise RuntimeError(f"the tuner ended with code {code}: {lines[-1] if lines else 'no output'}")
    told = [f"`{line.strip()}`" for line in lines if " skipped " not in f" {line.strip()} "]
    section = Section(lines=[f"head size {HEAD_SIZES} and the label head; all of it is in {LOG_NAME}", *told[-_LINES:]])
    section.is_cut = code is None
    return section
