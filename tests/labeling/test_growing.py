"""Runs of some rows: the first N, or a sample, whose answers count when the run grows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preftree.engine.errors import OutputError, UsageError
from preftree.labeling.commands.parser import parse
from preftree.labeling.commands.table import COMMANDS
from preftree.labeling.data.selection import rows_of
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.methods import RlaifOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.run import run_label
from preftree.labeling.runs.status import status_lines
from tests.labeling.fakes import FakeScorer, fake_scorer_factory, open_fake_method, row, write_rows

parquet = pytest.importorskip("pyarrow.parquet")

ROWS = 40


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows: list[Any] = [row(id=f"id {n}", response_a=f"this {n}") for n in range(ROWS)]
    rows[3] = b"bad"
    rows[30] = {**rows[30], "id": "id 2"}
    return write_rows(tmp_path / "in.jsonl", rows)


def label(source: Path, out: Path, scorer: FakeScorer | None = None, **changes: Any) -> list[str]:
    """The ids in labels.parquet afterwards."""
    options = LabelOptions(input=str(source), out=str(out), quiet=True, **changes)
    run_label(options, fake_scorer_factory(scorer), open_fake_method)
    ids: list[str] = parquet.read_table(out / "labels.parquet")["id"].to_pylist()
    return ids


def test_a_limit_grows(source: Path, tmp_path: Path) -> None:
    """Catches rows that are judged again, and labels of a grown run that are not those of the whole at once."""
    label(source, tmp_path / "whole")
    out, scorer = tmp_path / "out", FakeScorer()
    assert len(label(source, out, limit=7)) == 7
    assert "7 of 7 (100.0%), 1 of them rejected" in "\n".join(status_lines(out))
    assert len(label(source, out, scorer, limit=20)) == 20
    assert sum(scorer.calls) == 2 * 13
    label(source, out, scorer)
    assert sum(scorer.calls) == 2 * (13 + 19), "20 more, one of them with the id of another"
    assert (out / "labels.parquet").read_bytes() == (tmp_path / "whole" / "labels.parquet").read_bytes()


def test_a_sample_is_part_of_larger_ones_and_of_the_whole(source: Path, tmp_path: Path) -> None:
    """Catches a sample that must be judged again, one in another order than the input, and one of the first rows."""
    label(source, tmp_path / "whole")
    out, scorer = tmp_path / "out", FakeScorer()
    some = label(source, out, scorer, sample=10, seed=3)
    more = label(source, out, scorer, sample=25, seed=3)
    assert (len(some), len(more), {*some} < {*more}) == (10, 25, True)
    whole = label(source, out, scorer)
    rest = iter(whole)
    assert all(found in rest for found in more), "in the order of the input"
    assert more != whole[:25]
    assert sum(scorer.calls) == 2 * (ROWS - 2)
    assert (out / "labels.parquet").read_bytes() == (tmp_path / "whole" / "labels.parquet").read_bytes()


def test_rows_of_a_sample() -> None:
    """Catches a sample that another NumPy draws otherwise, one that ignores its seed, and numbers out of order."""
    assert rows_of(1000, sample=5).tolist() == [11, 269, 850, 855, 921]
    assert rows_of(1000, sample=5, seed=1).tolist() != rows_of(1000, sample=5).tolist()
    assert rows_of(4, sample=9).tolist() == [0, 1, 2, 3]
    assert rows_of(1000, limit=100, sample=50).max() < 100
    parts = [rows_of(1000, sample=50, shard=f"{n}/3") for n in (1, 2, 3)]
    assert np.concatenate(parts).tolist() == rows_of(1000, sample=50).tolist()


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ({}, {"limit": 5}, f"{ROWS - 5} of its {ROWS} rows"),
        ({"sample": 10, "seed": 1}, {"sample": 10, "seed": 2}, "[1-9] of its 10 rows"),
        ({"limit": 9}, {"sample": 12}, "[1-9] of its 9 rows"),
    ],
)
def test_a_run_does_not_shrink(
    source: Path, tmp_path: Path, before: dict[str, Any], after: dict[str, Any], lost: str
) -> None:
    """Catches labels of a whole run that those of a trial replace."""
    ids = label(source, tmp_path / "out", **before)
    with pytest.raises(OutputError, match=lost + r" would be left out \(--limit, --sample\); name another --out"):
        label(source, tmp_path / "out", **after)
    assert parquet.read_table(tmp_path / "out" / "labels.parquet")["id"].to_pylist() == ids


def test_a_seed_of_rationales_is_that_of_their_answers(source: Path, tmp_path: Path) -> None:
    """Catches rationales of two seeds in one run, because the seed of a sample may change."""
    drawn: dict[str, Any] = {"cot": True, "temperature": 0.5, "sample": 5}
    label(source, tmp_path / "out", seed=1, **drawn)
    with pytest.raises(OutputError, match=r"options\.seed was 1 and is 2 now"):
        label(source, tmp_path / "out", seed=2, **drawn | {"sample": None})
    label(source, tmp_path / "out", seed=1, **drawn | {"sample": None})
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["options"]["sample"], record["rows"]) == (None, ROWS)


def test_a_seed_needs_something_to_draw() -> None:
    """Catches a seed that does nothing, and one that is refused where it draws the sample."""
    given: dict[str, Any] = {"input": "in.jsonl", "out": "x"}
    with pytest.raises(UsageError, match=r"--seed requires --cot or --sample$"):
        LabelOptions(**given, seed=1)
    with pytest.raises(UsageError, match="--seed requires --cot"):
        RlaifOptions(seed=1)
    for command in ("label", "score", "reward", "probe"):
        _, drawn = parse(COMMANDS, [command, "in.jsonl", "--out", "x", "--sample", "3", "--seed", "1"])
        assert isinstance(drawn, LabelOptions)
        assert (drawn.sample, drawn.seed) == (3, 1)
    for method in ("rlaif", "ranking"):
        options = LabelOptions(**given, sample=3, seed=1, method=method)
        assert open_method(options).name == method
