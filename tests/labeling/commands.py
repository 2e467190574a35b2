"""Helpers for tests of the command line."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.processes import run_python


def preftree(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own; options as in `run_python`."""
    return run_python("-m", "preftree.labeling.cli", *arguments, **({"seconds": 60} | options))


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
