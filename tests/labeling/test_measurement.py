"""How long a job takes, from a few seconds of it: on a clock that a fake model moves on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from preftree.labeling.runs import measurement
from preftree.labeling.runs.measurement import Measurement, Point, Spread, measure
from tests.labeling.fakes import FakeEncoded, FakeMethod, FakeScorer, row, write_rows
from tests.labeling.opened import read


class Timed(FakeScorer):
    """A window takes a second for every 1,000 unique tokens, and the first one three seconds more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(window_tokens=2000)
        self.now = 100.0
        self.lengths: set[int] = set()
        monkeypatch.setattr(measurement, "time", self)

    def perf_counter(self) -> float:
        return self.now

    def score(self, encoded: Sequence[FakeEncoded]) -> list[Any]:
        self.now += (0 if self.calls else 3) + sum(len(entry.ids) for entry in encoded) / 2000
        self.lengths |= {len(entry.ids) for entry in encoded}
        return super().score(encoded)


def samples_of(tmp_path: Path, number: int) -> list[Any]:
    """The shortest first."""
    rows = [row(id=str(k), response_a="a" * k) for k in range(number)]
    return list(read(write_rows(tmp_path / "in.jsonl", rows)))


def test_the_time_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches loading taken for labelling, the head of a file taken for the whole, and a job that is run to its end."""
    scorer, spread, samples = Timed(monkeypatch), Spread[list[Any]](), samples_of(tmp_path, 2000)
    for first in range(0, 2000, 10):
        spread.add(samples[first : first + 10])
    found = measure(spread, FakeMethod(), scorer)  # type: ignore[arg-type]
    assert 5 <= found.seconds <= 7
    assert 0 < found.end.rows - found.begin.rows < 200
    assert found.estimate(1_000_000, 0) == pytest.approx(1000)
    assert {length > 1000 for length in scorer.lengths} == {False, True}


def test_a_small_job_is_measured_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an estimate from nothing where there is one window, and one that leaves out what comes once."""
    scorer, spread = Timed(monkeypatch), Spread[list[Any]]()
    spread.add(samples_of(tmp_path, 3))
    found = measure(spread, FakeMethod(), scorer)  # type: ignore[arg-type]
    assert found.end.rows == 3
    assert found.estimate(found.end.unique_tokens, 0) == pytest.approx(found.seconds)
    assert found.seconds > 3


def test_at_least_two_windows_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an estimate from one window where each takes longer than the measurement."""
    scorer, spread = Timed(monkeypatch), Spread[list[Any]]()
    scorer.window_tokens = 200_000
    samples = samples_of(tmp_path, 400)
    for first in range(0, 400, 5):
        spread.add(samples[first : first + 5])
    measure(spread, FakeMethod(), scorer)  # type: ignore[arg-type]
    assert len(scorer.calls) >= 3


def test_rationales_are_what_counts() -> None:
    """Catches the time of --cot scaled by prompts' tokens, of which there are few beside those that are written."""
    found = Measurement(Point(10.0, 1, 1000, 50, 4), Point(20.0, 11, 2000, 450, 24))
    assert found.estimate(1_000_000, 200) == 100.0
    lines = [text for _, text in found.lines(100, 1_000_000, 200, 2.5)]
    assert lines == [
        "10 of 100 rows in 10 s: 100 unique tokens/s, 40 generated tokens/s",
        "about 100 s for all rows on this machine, 1.0 rows/s",
        "and 2.5 s for loading the model",
    ]


def test_a_spread_is_even() -> None:
    """Catches memory that grows with the input, and an order whose beginning is a part of it."""
    spread = Spread[int]()
    for number in range(10_000):
        spread.add(number)
    scattered = spread.scattered()
    assert 32 <= len(scattered) <= 64
    assert sorted(scattered) == list(range(0, 10_000, spread.step))
    assert {number // 2500 for number in scattered[:4]} == {0, 1, 2, 3}
    few = Spread[int]()
    for number in range(5):
        few.add(number)
    assert (sorted(few.scattered()), few.step) == (list(range(5)), 1)
