"""Runs with a fake model: broken off, finished, damaged; and what lies in their directories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from preftree.labeling.answers.answers import ANSWERS
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.report.text import RunSummary
from preftree.labeling.runs.run import run_label
from tests.labeling.fakes import FakeScorer, fake_scorer_factory, open_fake_method, row, write_rows

ROWS = 60


class Failing(FakeScorer):
    """Breaks at a window of one's choice, from 0; one row a window."""

    def __init__(self, at: int, error: BaseException) -> None:
        super().__init__(window_tokens=1)
        self._at, self._error = at, error

    def score(self, encoded: Any) -> Any:
        if len(self.calls) == self._at:
            raise self._error
        return super().score(encoded)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Sixty rows of which three cannot be labelled, each for another reason."""
    rows: list[Any] = [row(id=f"id {n}", response_a=f"this {n}", gold="ab"[n % 2], note=n) for n in range(ROWS)]
    rows[5] = {**rows[5], "prompt": "TOO LONG"}
    rows[6] = {**rows[6], "prompt": "NOT FINITE"}
    rows[7] = b"bad"
    return write_rows(tmp_path / "in.jsonl", rows)


@pytest.fixture
def whole(source: Path, tmp_path: Path) -> bytes:
    """The labels of an uninterrupted run."""
    run(source, tmp_path / "whole")
    return labels(tmp_path / "whole")


def run(source: Path, out: Path, scorer: FakeScorer | None = None, **changes: Any) -> RunSummary:
    options = LabelOptions(input=str(source), out=str(out), quiet=True, **changes)
    return run_label(options, fake_scorer_factory(scorer), open_fake_method)


def stopped(source: Path, out: Path, after: int, **changes: Any) -> Path:
    """A run that broke in the window of the row `after`, counted without those that never reach the model."""
    with pytest.raises(ZeroDivisionError):
        run(source, out, Failing(after, ZeroDivisionError("broken")), **changes)
    return out


def labels(out: Path) -> bytes:
    return (out / "labels.parquet").read_bytes()


def record(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text())
    return found


def parts_of(out: Path) -> list[Path]:
    return sorted((out / ANSWERS).glob("part-*.parquet"))


def flipped(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)
