"""The project's own tests that need a GPU, in a process of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter

from benchmarks.gpu.report import ROOT, Section
from benchmarks.gpu.session import Session
from benchmarks.gpu.targets import Measured

LOG_NAME = "tests.txt"
# Of the whole run's time, and what must be left for the rest of it.
MOST_OF_THE_TIME = 0.4
TAIL_LINES = 12
MOST_LOG_BYTES = 8_000_000
MARK = re.compile(r"\bmark\.gpu\b|\bgpu_if_there\b")
_OUTCOME = re.compile(r"^(?:\S+::.*\s)?(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b.*%\]$")


def run(session: Session) -> Section:
    limit = MOST_OF_THE_TIME * session.seconds_left
    log, files = session.report.directory / LOG_NAME, marked_files()
    if not files:
        raise FileNotFoundError(f"no test below {ROOT / 'tests'} is marked gpu")
    # Verbose, since a run that is cut off has no summary: outcomes are counted line by line. The project's own options
    # contain a -q, which takes one -v away.
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-vv", "--tb=short", "--color=no", "--durations=8"]
    command += ["-p", "no:cacheprovider", "--continue-on-collection-errors", *files]
    with log.open("w", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        ended = _run(command, file.fileno(), limit)
    text = log.read_bytes()[-MOST_LOG_BYTES:].decode("utf-8", errors="replace")
    log.write_text(text, encoding="utf-8")
    lines = text.splitlines()
    found = outcomes(lines)
    broken = found["FAILED"] + found["ERROR"] + (ended not in ("exit code 0", "exit code 1"))
    counts = ", ".join(f"{count} {name.lower()}" for name, count in sorted(found.items())) or "none ran"
    tail = [f"`{line}`" for line in lines[-TAIL_LINES:] if line]
    return Section(
        lines=[f"{counts}; {ended}; the whole log is in {LOG_NAME}", *tail],
        data={"outcomes": dict(found), "ended": ended},
        measured=[Measured("tests", counts, float(broken) if found["PASSED"] + broken else None)],
    )


def marked_files() -> list[str]:
    """Test files that may hold tests with the mark. Others may need packages that a machine with a GPU lacks."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in files if MARK.search(path.read_text(encoding="utf-8"))]


def outcomes(lines: list[str]) -> Counter[str]:
    """How often each outcome stands in the verbose log of pytest."""
    return Counter(match[1] for line in lines if (match := _OUTCOME.match(line)))


def _run(command: list[str], output: int, limit: float) -> str:
    """How it ended. It stays in this process's group, which is killed as a whole."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        return f"exit code {process.wait(timeout=limit)}"
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f"cut off after {limit:.0f} s"
