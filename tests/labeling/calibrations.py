"""Runs with gold, and calibrations of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyarrow import parquet

from preftree.labeling import cli
from preftree.labeling.data.labels_file import LABELS
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.run import run_label
from tests.labeling.fakes import FakeScorer, fake_scorer_factory, row, write_rows

ROWS = 40
NO_GOLD: Mapping[str, str] = {}


def judged(out: Path, scorer: FakeScorer | None = None, gold: Mapping[str, str] = NO_GOLD, **options: Any) -> Path:
    """A run of a fake judge with a real method, over pairs of which one has the same response twice."""
    rows = [row(id=f"id {n}", response_a=f"this {n}", kind=("easy", "hard")[n % 2]) for n in range(ROWS)]
    rows[7]["response_b"] = rows[7]["response_a"]
    for one in rows:
        one |= {"gold": gold[one["id"]]} if one["id"] in gold else {}
    source = write_rows(out.parent / f"pairs-{len(gold)}.jsonl", rows)
    chosen = LabelOptions(**{"input": str(source), "out": str(out), "quiet": True, **options})
    run_label(chosen, fake_scorer_factory(scorer or FakeScorer()), open_method)
    return out


def table(run: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.read_table(run / LABELS).to_pylist()
    return found


def gold_rows(run: Path, wrong_every: int = 4) -> list[dict[str, Any]]:
    """Gold that mostly says what the labels of the run say."""
    rows = [one for one in table(run) if one["verdict"] in ("a", "b")]
    return [
        {"id": one["id"], "gold": one["verdict"] if place % wrong_every else {"a": "b", "b": "a"}[one["verdict"]]}
        for place, one in enumerate(rows)
    ]


def gold_file(run: Path, wrong_every: int = 4) -> Path:
    return write_rows(run.with_name(f"gold-{wrong_every}.jsonl"), gold_rows(run, wrong_every))


def calibrated(run: Path, name: str = "cal.json", wrong_every: int = 4, arguments: Sequence[str] = ()) -> Path:
    """The calibration of a run."""
    out = run.with_name(name)
    gold = str(gold_file(run, wrong_every))
    assert cli.main(["calibrate", str(run), "--gold", gold, "--out", str(out), *arguments]) == 0
    return out
