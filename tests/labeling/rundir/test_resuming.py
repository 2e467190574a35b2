"""A run outlives whatever ends its process, and goes on as the run that it is."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.run import run_label
from tests.labeling.fakes import FakeMethod, FakeScorer, fake_scorer_factory, open_fake_method, row, write_rows
from tests.labeling.rundir.runs import ROWS, labels, record, run, stopped
from tests.processes import answered

parquet = pytest.importorskip("pyarrow.parquet")


def kill(tmp_path: Path, moments: int, seed: int, *workers: str) -> dict[str, int]:
    found: dict[str, int] = answered("-m", "tests.labeling.killing", tmp_path, moments, seed, *workers)
    return found


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """Catches other bytes after a kill, wherever it comes, and rows with answers that are judged again."""
    found = kill(tmp_path, 4, seed=random.randrange(10**6))
    assert found["killed"] == 4
    assert (found["asked_again"], found["other_bytes"]) == (0, 0)


@pytest.mark.soak
def test_killed_at_fifty_random_moments(tmp_path: Path) -> None:
    found = kill(tmp_path, 50, seed=0)
    assert found["killed"] == 50
    assert (found["asked_again"], found["other_bytes"]) == (0, 0)


@pytest.mark.soak
def test_workers_killed_at_fifty_random_moments(tmp_path: Path) -> None:
    """Catches labels with holes or of two processes at once, wherever a worker ends."""
    found = kill(tmp_path, 50, 0, "workers")
    assert found["killed"] >= 50
    assert (found["asked_again"], found["other_bytes"]) == (0, 0)


def test_going_on(source: Path, tmp_path: Path, whole: bytes) -> None:
    """Catches labels, totals or figures of the second half alone, and a row that is asked about twice."""
    out = stopped(source, tmp_path / "out", 20)
    assert record(out)["state"] == "running"
    scorer = FakeScorer()
    summary = run(source, out, scorer)
    assert labels(out) == whole
    assert sum(scorer.calls) == 2 * (ROWS - 2 - 20), "the rest, without two rows that never reach the model"
    first, again = record(tmp_path / "whole"), record(out)
    assert again["state"] == "complete"
    assert again["quality"] == first["quality"]
    timed = ("seconds", "answers_seconds", "prompt_tokens_per_second", "unique_tokens_per_second")
    assert {k: v for k, v in again["totals"].items() if k not in timed} == {
        k: v for k, v in first["totals"].items() if k not in timed
    }
    assert summary.ok == ROWS - 3


def test_a_complete_run_loads_no_model(source: Path, tmp_path: Path, whole: bytes) -> None:
    """Catches hours that are spent again by a command that is given twice, and labels that are lost for good."""
    out = tmp_path / "whole"

    def explode(_: object, weights: bool = True) -> Any:
        assert not weights, "the model was loaded"
        return FakeScorer()

    (out / "labels.parquet").unlink()
    before = record(out)
    run_label(LabelOptions(input=str(source), out=str(out), quiet=True), explode, open_fake_method)
    assert labels(out) == whole
    assert record(out) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limit": 5}, r"\d+ of its \d+ rows would be left out \(--limit, --sample\)"),
        ({"shard": "1/2"}, "options.shard was null and is 1/2 now"),
        ({"mapping": ("id=note",)}, "options.mapping"),
    ],
)
def test_another_run_is_refused_by_name(source: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    """Catches labels of two settings in one file, and a refusal that leaves one guessing."""
    out = stopped(source, tmp_path / "out", 3)
    with pytest.raises(OutputError, match=said) as error:
        run(source, out, **changes)
    for way in ("--out", "--force-new", "--overwrite"):
        assert way in str(error.value)
    run(source, out, batch_tokens=7, prefix_cache=False)


def test_changed_input_model_or_method_is_refused(source: Path, tmp_path: Path) -> None:
    """Catches the same for what settings do not name: contents of files, versions of libraries."""
    out = stopped(source, tmp_path / "out", 3)

    class Other(FakeScorer):
        def __init__(self, **described: Any) -> None:
            super().__init__()
            self._described = described

        def describe(self, before: Any = None) -> dict[str, Any]:
            return super().describe() | self._described

    for described, said in (
        ({"model_sha256": "2" * 64}, "scorer.model_sha256 was 111111111111... and is 222222222222... now"),
        ({"versions": {"fake": "2"}}, "versions.fake was 1 and is 2 now"),
    ):
        with pytest.raises(OutputError, match=said):
            run(source, out, Other(**described))
    options = LabelOptions(input=str(source), out=str(out), quiet=True)
    changed = FakeMethod(FakeMethod().template.__class__(sha256="f" * 64, source="another"))
    with pytest.raises(OutputError, match=r"method.template.sha256 was 000000000000... and is ffffffffffff... now"):
        run_label(options, fake_scorer_factory(), lambda *_: changed)
    write_rows(source, [row()])
    with pytest.raises(OutputError, match=r"input.sha256|input.rows"):
        run(source, out)


def test_beside_and_in_place(source: Path, tmp_path: Path, whole: bytes) -> None:
    """Catches --force-new that touches what is there, and --overwrite that keeps answers of the run it replaces."""
    out = stopped(source, tmp_path / "out", 3)
    before = (out / "run.json").read_bytes()
    for number in (2, 3):
        run(source, out, force_new=True)
        assert labels(tmp_path / f"out-{number}") == whole
    assert (out / "run.json").read_bytes() == before
    scorer = FakeScorer()
    run(source, out, scorer, overwrite=True)
    assert sum(scorer.calls) == 2 * (ROWS - 2)


def test_rejected_rows_are_tried_again_when_asked(source: Path, tmp_path: Path) -> None:
    """Catches rejections that are forgotten, or that --retry-rejects cannot undo; and rows asked about besides them."""

    class Better(FakeScorer):
        def encode(self, request: Any) -> Any:
            return super().encode(type(request)(request.user.replace("TOO LONG", "fits"), "", request.labels))

    out = tmp_path / "out"
    run(source, out)
    scorer = Better()
    assert run(source, out, scorer).rejections.count == 3
    assert scorer.calls == []
    summary = run(source, out, scorer, retry_rejects=True)
    assert summary.rejections.count == 2
    assert sum(scorer.calls) == 4, "the row that fits now, and the one whose scores are not finite"
    assert parquet.read_table(out / "labels.parquet")["status"][5].as_py() == "ok"


def test_a_row_whose_scores_are_not_finite_leaves_its_neighbours_alone(
    source: Path, tmp_path: Path, whole: bytes
) -> None:
    """Catches a nan that spreads over a window, or that is written as a number."""
    rows = parquet.read_table(tmp_path / "whole" / "labels.parquet").to_pylist()
    assert rows[6]["reason"] == "line 7: the scores are not finite"
    clean = [entry for n, entry in enumerate(source.read_bytes().splitlines()) if n != 6]
    run(write_rows(tmp_path / "clean.jsonl", clean), tmp_path / "clean")
    alone = parquet.read_table(tmp_path / "clean" / "labels.parquet").to_pylist()
    kept = [entry for n, entry in enumerate(rows) if n != 6]
    assert [(entry["id"], entry["p_a"]) for entry in alone] == [(entry["id"], entry["p_a"]) for entry in kept]
