"""Runs with rows that no model could label: they load none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError
from preftree.labeling import cli
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.report.text import Rejections, RunSummary
from preftree.labeling.runs import job, run
from preftree.labeling.runs.run import run_label
from tests.labeling.commands import one_error
from tests.labeling.fakes import FakeScorer, fake_scorer_factory, open_fake_method, row, write_rows

BLANK, BROKEN = row(id="blank", prompt=" "), b"bad"


def not_loaded(options: Any, weights: bool = True) -> Any:
    assert not weights, "the model was loaded"
    return FakeScorer()


def label(source: Path, out: Path, factory: Any = not_loaded, **changes: Any) -> RunSummary:
    options = LabelOptions(input=str(source), out=str(out), quiet=True, **changes)
    return run_label(options, factory, open_fake_method)


@pytest.fixture
def some(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in.jsonl", [row(id="x"), row(id="y"), BLANK, BROKEN])


def test_no_row_can_be_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches minutes of loading for a file of rejects, and a run of no labels that passes for one."""
    monkeypatch.setattr(run, "load_judge", not_loaded)
    monkeypatch.setattr(run, "open_method", open_fake_method)
    single = {"id": "s", "prompt": "Which?", "response": "this"}
    source = write_rows(tmp_path / "none.jsonl", [BROKEN, BLANK, {**BLANK, "id": "other"}, single, row(id="x")])
    command = ["label", str(source), "--limit", "4", "--out", str(tmp_path / "out")]
    assert cli.main(command) == 1
    reasons = "blank text (2); broken JSON (1); wrong kind (1)"
    said = f"preftree: no row of {source} can be labelled: 4 rows rejected, {reasons}; the first: line 1: broken JSON: "
    assert one_error(capsys).startswith(said)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.parquet").write_text("mine")
    assert cli.main([*command, "--overwrite"]) == 1
    assert one_error(capsys).startswith(said)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labels.parquet"]


def test_a_shard_of_rejects_is_a_shard(some: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a shard that cannot be finished, so that the others cannot be joined."""
    monkeypatch.setattr(job, "open_method", open_fake_method)
    label(some, tmp_path / "1", fake_scorer_factory(), shard="1/2")
    assert label(some, tmp_path / "2", fake_scorer_factory(), shard="2/2").rejections.count == 2
    merged = ["merge", str(tmp_path / "1"), str(tmp_path / "2"), "--out", str(tmp_path / "out"), "--quiet"]
    assert cli.main(merged) == 3


def test_a_rest_of_rejects_needs_no_model(some: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a model that is loaded to reject rows, and rows that are left without a word."""

    class Failing(FakeScorer):
        def score_stream(self, windows: Any, progress: Any = None) -> Any:
            for window in windows:
                yield self.score(window) if window else 1 / 0

    monkeypatch.setattr("preftree.labeling.pipeline._WINDOW_ROWS", 2)
    label(some, tmp_path / "whole", fake_scorer_factory())
    with pytest.raises(ZeroDivisionError):
        label(some, tmp_path / "out", fake_scorer_factory(Failing()))
    assert not (tmp_path / "out" / "labels.parquet").exists()
    summary = label(some, tmp_path / "out")
    assert (summary.ok, summary.rejections.kinds) == (2, {"blank text": 1, "broken JSON": 1})
    whole, resumed = (tmp_path / name / "labels.parquet" for name in ("whole", "out"))
    assert resumed.read_bytes() == whole.read_bytes()
    assert label(some, tmp_path / "out").rejections.count == 2


def test_rejects_that_stay_rejects_need_no_model(some: Path, tmp_path: Path) -> None:
    """Catches a model that --retry-rejects loads for rows that it cannot help, and one that it does not for others."""
    label(some, tmp_path / "out", fake_scorer_factory())
    before = (tmp_path / "out" / "labels.parquet").read_bytes()
    assert label(some, tmp_path / "out", retry_rejects=True).rejections.count == 2
    assert (tmp_path / "out" / "labels.parquet").read_bytes() == before
    long = write_rows(tmp_path / "long.jsonl", [row(id="x"), row(id="y", prompt="TOO LONG"), BROKEN])
    label(long, tmp_path / "long", fake_scorer_factory())
    with pytest.raises(AssertionError, match="the model was loaded"):
        label(long, tmp_path / "long", retry_rejects=True)


def test_an_input_that_changes_after_a_look(some: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches good rows that are kept as judged, without a score, because they were bad when they were looked at."""
    label(some, tmp_path / "whole", fake_scorer_factory())
    label(some, tmp_path / "out", fake_scorer_factory(), limit=1)
    with monkeypatch.context() as patched:
        patched.setattr(run, "hopeless", lambda *_: Rejections())
        with pytest.raises(InputError, match="changed while it was read; run the same command again"):
            label(some, tmp_path / "out")
    label(some, tmp_path / "out", fake_scorer_factory())
    whole, out = (tmp_path / name / "labels.parquet" for name in ("whole", "out"))
    assert out.read_bytes() == whole.read_bytes()
