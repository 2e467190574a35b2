"""The benchmark of several workers: what it counts, and what it computes from costs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks import processors, scale
from benchmarks.pipeline import write_rows
from benchmarks.processors import Processors
from preftree.engine.errors import InputError
from tests.processes import printed

BUSY = "import sys, time\nwhile time.process_time() < 0.8: pass"


def test_processor_time_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches children that are not counted, that are lost when they end, and work of one kind under another's name."""
    monkeypatch.setattr(processors, "_SECONDS_BETWEEN_LOOKS", 0.05)
    started = time.time()
    with Processors() as counted:
        time.sleep(0.1)
        for name in ("ray::Worker.judge", "raylet"):
            printed("-c", BUSY, name)
    found = counted.between(started, time.time())
    assert 0.5 < found["workers"] < 1.5
    assert 0.5 < found["ray"] < 1.5
    assert found["driver"] < 0.4
    assert 0 <= found["others"] < 1
    with pytest.raises(InputError, match="cannot be measured; give it more rows"):
        counted.between(started, started)


def test_costs_of_a_driver(tmp_path: Path) -> None:
    """Catches a stage that is not run, and rates that are seconds."""
    source, out = tmp_path / "in.parquet", tmp_path / "out"
    write_rows(source, 300)
    scale._write_parts(source, out, 3)
    costs = scale.driver_costs(source, out, 300, 3)
    assert (out / "labels.parquet").is_file()
    assert all(costs[name] > 100 for name in ("look_rows_per_second", "cut_rows_per_second", "labels_rows_per_second"))


def test_a_billion_pairs() -> None:
    """Catches units that are mixed up."""
    costs = dict.fromkeys(("look_rows_per_second", "cut_rows_per_second", "labels_rows_per_second"), 1e9 / 3600)
    found = scale.simulated({**costs, "open_ms_per_part": 3.6})
    assert found["look_hours"] == found["driver_hours"] == found["labels_hours"] == pytest.approx(1)
    assert found["judging_hours"] == pytest.approx(1e9 / 60_000 / 3600)
    assert found["open_hours"] == pytest.approx(1e9 / 2048 * 3.6e-3 / 3600)
    assert found["workers_that_one_driver_feeds"] == pytest.approx(1e9 / 3600 / 60)
