"""Helpers for tests of the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def preftree(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "preftree.labeling.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False, **options)


def counted(module: str, *arguments: object) -> dict[str, int]:
    """The JSON object that a module of these tests prints, run in a process of its own."""
    command = [sys.executable, "-m", f"tests.labeling.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def unwrapped(text: str) -> str:
    """What is printed in 80 columns, as one line."""
    return " ".join(text.split())


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The single line that a failure may print."""
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("preftree: ")
    return line
