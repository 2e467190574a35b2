"""The project's own tests that need a GPU, in processes of their own."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.gpu import outcomes
from benchmarks.gpu.report import ROOT, Section, Table
from benchmarks.gpu.session import Session
from benchmarks.gpu.targets import Measured

LOG_NAME = "tests.txt"
# Of the time that is left; what follows asks for little.
MOST_OF_THE_TIME = 0.9
TAIL_LINES = 4
MOST_LOG_BYTES = 8_000_000
MOST_PROCESSES = 12
MOST_FAILURES = 60
MARK = re.compile(r"\bmark\.gpu\b|\bgpu_if_there\b")
_SOUND = ("passed", "skipped")


def run(session: Session) -> Section:
    """All tests with the mark; failures are named as far as the run came."""
    limit, log, files = MOST_OF_THE_TIME * session.seconds_left, session.report.directory / LOG_NAME, marked_files()
    if not files:
        raise FileNotFoundError(f"no test below {ROOT / 'tests'} is marked gpu")
    with tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch) / "outcomes.jsonl"
        written.touch()
        with log.open("w", encoding="utf-8") as file:
            command = command_for(files, processes(session.device.is_rehearsal))
            file.write(f"$ {' '.join(command)}\n")
            file.flush()
            ended = run_tests(command, file.fileno(), limit, written)
        found = records(written.read_text(encoding="utf-8"))
    text = log.read_bytes()[-MOST_LOG_BYTES:].decode("utf-8", errors="replace")
    log.write_text(text, encoding="utf-8")
    return section_of(found, ended, [line for line in text.splitlines()[-TAIL_LINES:] if line])


def section_of(found: list[dict[str, Any]], ended: str, tail: list[str]) -> Section:
    """Counts, and one row for every test that failed or broke."""
    counted = Counter(str(record["outcome"]) for record in found)
    failures = [record for record in found if record["outcome"] not in _SOUND]
    counts = ", ".join(f"{count} {name}" for name, count in sorted(counted.items())) or "none ran"
    section = Section(lines=[f"{counts}; {ended}; the whole log is in {LOG_NAME}", *(f"`{line}`" for line in tail)])
    if failures:
        section.tables.append(Table("", ["test", "outcome", "reason"]))
        for record in failures[:MOST_FAILURES]:
            section.tables[0].add(f"`{record['test']}`", record["outcome"], f"`{record['reason']}`")
    broken = len(failures) + (not failures and ended not in ("exit code 0", "exit code 1") and not is_cut(ended))
    is_known = counted["passed"] + broken
    section.data = {"outcomes": dict(counted), "ended": ended, "failures": failures}
    section.measured.append(Measured("tests", f"{counts}; {ended}", float(broken) if is_known else None))
    section.is_cut = is_cut(ended)
    return section


def is_cut(ended: str) -> bool:
    return ended.startswith("cut off")


def marked_files() -> list[str]:
    """Test files that may hold tests with the mark. Others may need packages that a machine with a GPU lacks."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in files if MARK.search(path.read_text(encoding="utf-8"))]


def processes(is_rehearsal: bool) -> int:
    """As many as the CPUs keep busy, where xdist is installed; 0: in pytest's own process."""
    if is_rehearsal or importlib.util.find_spec("xdist") is None:
        return 0
    return max(1, min(MOST_PROCESSES, len(os.sched_getaffinity(0)) * 3 // 4))


def command_for(files: list[str], count: int) -> list[str]:
    """Plugins are loaded by name: those that happen to be installed may write pages of warnings."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-rfE", "--tb=short", "--color=no", "--durations=8"]
    command += ["-p", "no:cacheprovider", "-p", outcomes.__name__, "--continue-on-collection-errors"]
    return command + (["-p", "xdist", "-n", str(count)] if count else []) + files


def records(text: str) -> list[dict[str, Any]]:
    """What the plugin wrote; a line that was being written when the run was cut off does not count."""
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def run_tests(command: list[str], output: int, limit: float, written: Path) -> str:
    """How it ended. It stays in this process's group, which is killed as a whole.

    It writes its own outcomes, whatever process of xdist this is called in.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST_")}
    environment = inherited | {
        "PYTHONUNBUFFERED": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        outcomes.VARIABLE: str(written),
    }
    try:
        done = subprocess.run(
            command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=environment, timeout=limit
        )
    except subprocess.TimeoutExpired:  # it has been killed
        return f"cut off after {limit:.0f} s"
    return f"exit code {done.returncode}"
