"""A plugin of pytest that writes every outcome as it happens: a run that is cut off still names its failures.

    PREFTREE_OUTCOMES=FILE python -m pytest -p benchmarks.gpu.outcomes ...

FILE gets one JSON object a line: test, outcome, and the first line of the reason where it did not pass.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

VARIABLE = "PREFTREE_OUTCOMES"
_CHARACTERS = 300


def pytest_runtest_logreport(report: Any) -> None:
    """A test that passes is counted once, by its call; what goes wrong before or after the call counts as an error."""
    if report.when == "call":
        _write(report.nodeid, report.outcome, report)
    elif report.failed:
        _write(report.nodeid, "error", report)
    elif report.skipped:
        _write(report.nodeid, "skipped", report)


def pytest_collectreport(report: Any) -> None:
    """A file that cannot be imported."""
    if report.failed:
        _write(report.nodeid, "error", report)


def _write(test: str, outcome: str, report: Any) -> None:
    # Processes of xdist report to the one that started them, which writes.
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    reason = "" if outcome in ("passed", "skipped") else _reason(report)
    with Path(os.environ[VARIABLE]).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"test": test, "outcome": outcome, "reason": reason}) + "\n")


def _reason(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else str(report.longrepr)).strip().splitlines() or [""]
    # Of a collection error the last line says what happened, of a test's the first one.
    return str(lines[0] if crash else lines[-1])[:_CHARACTERS]
