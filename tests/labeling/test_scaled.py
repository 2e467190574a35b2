"""Rule "scaled": labels that depend on the other rows of a run, wherever labels are made."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from preftree.labeling.api import label
from preftree.labeling.export.instructions import write_instructions
from preftree.labeling.options.export import InstructionOptions
from preftree.labeling.runs.shards import merge
from preftree.labeling.runs.view import view
from tests.labeling.fakes import FakeScorer, row, write_rows
from tests.labeling.rundir.runs import labels
from tests.labeling.test_aggregate import salmon

parquet = pytest.importorskip("pyarrow.parquet")

ROWS, DONE = 24, 9


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows: list[Any] = [row(id=f"id {n}", response_a=f"this {n}") for n in range(ROWS)]
    rows[4] = {**rows[4], "prompt": "TOO LONG"}
    return write_rows(tmp_path / "in.jsonl", rows)


def labelled(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return [one for one in rows if one["status"] == "ok"]


def expected(rows: list[dict[str, Any]]) -> list[tuple[str | None, float]]:
    """Who decides by how much, from the scores of these rows alone."""
    single: dict[str, list[float]] = {}
    for one in rows:
        for judged in one["principles"]:
            single.setdefault(judged["name"], []).extend((judged["s12"], judged["s21"]))
    found: list[tuple[str | None, float]] = []
    for one in rows:
        name, score, most = None, 0.0, 0.0
        for judged in one["principles"]:
            compared = abs(judged["score"]) / statistics.pvariance(single[judged["name"]])
            if judged["consistent"] and compared > most:
                name, score, most = judged["name"], judged["score"], compared
        found.append((name, score))
    return found


def decided(rows: list[dict[str, Any]]) -> list[tuple[str | None, float]]:
    return [(one["decided_by"], one["margin"]) for one in rows]


def test_a_run(source: Path, tmp_path: Path) -> None:
    """Catches variances of consistent rows only, of rejected rows, or of another principle."""
    rows = labelled(salmon(source, tmp_path / "out", aggregate="scaled") / "labels.parquet")
    assert len(rows) == ROWS - 1
    assert decided(rows) == expected(rows)
    raw = labelled(salmon(source, tmp_path / "raw") / "labels.parquet")
    assert [one["principles"] for one in raw] == [one["principles"] for one in rows]
    assert decided(raw) != decided(rows)


def test_the_decider_is_that_of_instructions(source: Path, tmp_path: Path) -> None:
    """Catches two ways to scale."""
    out = salmon(source, tmp_path / "out", aggregate="scaled")
    every = {"num_principles": "11", "passes": 1, "negate": 0.0, "noise": 0.0}
    write_instructions(InstructionOptions(labels=str(out), out=str(tmp_path / "x.jsonl"), **every))  # type: ignore[arg-type]
    made = [json.loads(line) for line in (tmp_path / "x.jsonl").read_bytes().splitlines()]
    rows = {one["id"]: one for one in labelled(out / "labels.parquet")}
    assert {one["id"]: (one["decided_by"], one["chosen"]) for one in made} == {
        name: (one["decided_by"], one["verdict"]) for name, one in rows.items() if one["decided_by"]
    }


def test_joined_shards_are_the_whole_run(source: Path, tmp_path: Path) -> None:
    """Catches labels that keep the variances of their shard."""
    shards = [salmon(source, tmp_path / f"shard {n}", shard=f"{n}/2", aggregate="scaled") for n in (1, 2)]
    merge([*map(str, shards)], str(tmp_path / "merged"), None, False, True)
    whole = salmon(source, tmp_path / "whole", aggregate="scaled")
    assert labels(tmp_path / "merged") == labels(whole)
    mine = labelled(shards[0] / "labels.parquet")
    assert decided(mine) == expected(mine)


def test_an_unfinished_run(source: Path, tmp_path: Path) -> None:
    """Catches a view that fails, or that divides by nothing, before the last row is judged."""

    class Stopping(FakeScorer):
        def score(self, encoded: Any) -> Any:
            if len(self.calls) == DONE:
                raise ZeroDivisionError("broken")
            return super().score(encoded)

    with pytest.raises(ZeroDivisionError):
        salmon(source, tmp_path / "out", Stopping(window_tokens=1), aggregate="scaled")
    with view(tmp_path / "out") as found:
        rows = labelled(found.labels)
    assert 0 < len(rows) < ROWS - 1
    assert decided(rows) == expected(rows)


def test_rows_in_memory(source: Path, tmp_path: Path) -> None:
    """Catches labels from Python that are not those of a run over the same rows."""
    rows = [json.loads(line) for line in source.read_bytes().splitlines()]
    judge: Any = FakeScorer(window_tokens=20_000)
    found = label(rows, judge, "salmon", aggregate="scaled").to_arrow().to_pylist()
    of_run = parquet.read_table(salmon(source, tmp_path / "out", aggregate="scaled") / "labels.parquet").to_pylist()
    for one, two in zip(found, of_run, strict=True):
        assert (one["id"], one["status"], one["decided_by"], one["p_a"]) == (
            two["id"],
            two["status"],
            two["decided_by"],
            two["p_a"],
        )
