"""Runs that are looked at before their end: show, report and export of what is labelled so far, and rows to read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import OutputError, UsageError
from preftree.labeling import cli
from preftree.labeling.answers.answers import ANSWERS, Answers
from preftree.labeling.answers.lines import LineReader
from preftree.labeling.options.reading import ShowOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.run import run_label
from preftree.labeling.runs.view import view
from tests.labeling.fakes import FakeScorer, row, write_rows

parquet = pytest.importorskip("pyarrow.parquet")

ROWS, DONE = 30, 12


class Stopping(FakeScorer):
    """Breaks once DONE rows are labelled; a row a window."""

    def __init__(self) -> None:
        super().__init__(window_tokens=1)

    def score(self, encoded: Any) -> Any:
        if len(self.calls) == DONE:
            raise ZeroDivisionError("broken")
        return super().score(encoded)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in.jsonl", [row(id=f"id {n}", response_a=f"this {n}", gold="a") for n in range(ROWS)])


@pytest.fixture
def out(source: Path, tmp_path: Path) -> Path:
    """A run of which the first rows are labelled."""
    with pytest.raises(ZeroDivisionError):
        label(source, tmp_path / "out", Stopping())
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def _no_model(scorer: FakeScorer) -> None:
    pass


def label(source: Path, out: Path, scorer: FakeScorer | None = None) -> None:
    from tests.labeling.fakes import fake_scorer_factory, open_fake_method

    run_label(LabelOptions(input=str(source), out=str(out), quiet=True), fake_scorer_factory(scorer), open_fake_method)


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert cli.main([*map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_what_is_there_so_far(source: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches labels so far that are not those of the end, and a look that changes the run or hides its state."""
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with view(out) as found:
        some = parquet.read_table(found.labels)
        assert (found.rows, found.done, found.is_partial) == (ROWS, DONE, True)
    assert not found.labels.exists()
    text = " ".join(printed(capsys, "report", out).split())
    assert f"so far {DONE} of {ROWS} rows labels {DONE} rows labelled agreement with gold" in text
    assert json.loads(printed(capsys, "report", out, "--json"))["rows"] == ROWS
    assert "the two orders disagree" in printed(capsys, "show", out, "--disagree")
    assert "verdict" in printed(capsys, "show", out, "id 3")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    label(source, out)
    with view(out) as found:
        assert parquet.read_table(found.labels).slice(0, DONE) == some
        assert (found.labels, found.is_partial) == (out / "labels.parquet", False)


def test_an_export_so_far(source: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a part that is taken for the whole, and one that cannot be had."""
    arguments = ["export", str(out), "--to", "soft", "--out", str(tmp_path / "soft.jsonl")]
    assert cli.main(arguments) == 1
    assert "is not finished" in capsys.readouterr().err
    assert cli.main([*arguments, "--partial"]) == 0
    assert f"so far    {DONE} of {ROWS} rows" in capsys.readouterr().out
    assert len((tmp_path / "soft.jsonl").read_bytes().splitlines()) == DONE


def test_nothing_so_far(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback, and figures of no rows."""
    for part in (out / ANSWERS).iterdir():
        part.unlink()
    assert cli.main(["report", str(out)]) == 1
    assert "has no answers yet; `preftree status` says how far it is" in capsys.readouterr().err


def test_an_input_that_was_moved(source: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches labels so far that are made of another input."""
    shutil.move(source, tmp_path / "moved.jsonl")
    assert cli.main(["report", str(out)]) == 1
    assert "no such file" in capsys.readouterr().err
    assert "so far" in printed(capsys, "report", out, "--input", tmp_path / "moved.jsonl")


def test_parts_that_are_joined_meanwhile(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a look that fails because the run it looks at works."""
    upto, looks = LineReader.upto, 0

    def gone(reader: LineReader, last: int) -> Any:
        nonlocal looks
        looks += 1
        if looks <= times:
            raise FileNotFoundError("part")
        return upto(reader, last)

    monkeypatch.setattr(LineReader, "upto", gone)
    times = 2
    with view(out) as found:
        assert found.done == DONE
    times = 1000
    with pytest.raises(OutputError, match="its files come and go; try again"), view(out):
        pass


def test_most_rows_to_look_at(out: Path) -> None:
    """Catches a status of a large run that takes as long as its labels."""
    with view(out, most=5) as found:
        assert (found.done, parquet.read_table(found.labels).num_rows) == (5, 5)


def test_rows_worth_reading(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches rows that are not what was asked for, not the first of them, or without their texts."""
    out = tmp_path / "out"
    label(source, out)
    table = parquet.read_table(out / "labels.parquet").to_pylist()

    def shown(*arguments: object) -> list[str]:
        text = printed(capsys, "show", out, *arguments)
        return [
            line.removeprefix("---- ").split(":")[0].split(" ----")[0] for line in text.split("\n") if "----" in line
        ]

    gaps = sorted(table, key=lambda one: -abs(one["p_a_first"] - one["p_a_second"]))
    assert shown("--biased", "-n", "4") == [one["id"] for one in gaps[:4]]
    wrong = sorted((one for one in table if one["verdict"] == "b"), key=lambda one: one["p_a"])
    assert shown("--wrong", "-n", 100) == [one["id"] for one in wrong]
    apart = [one["id"] for one in table if (one["p_a_first"] > 0.5) != (one["p_a_second"] > 0.5)]
    assert shown("--disagree", "-n", 3) == apart[:3]
    assert "100%" not in printed(capsys, "show", out, "--disagree")  # of a single judgement
    assert shown() == [one["id"] for one in table[:10]]
    text = printed(capsys, "show", out, "--wrong", "-n", 1)
    for part in ("wrong with confidence", "verdict b", "gold a", "p, A first", "Prompt: Which?", "Response A: this"):
        assert part in text


def test_rows_worth_reading_of_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an empty answer that looks like a failure, and options that contradict each other."""
    source = write_rows(tmp_path / "in.jsonl", [row(id="x")])
    label(source, tmp_path / "out")
    assert printed(capsys, "show", tmp_path / "out", "--wrong") == "no row whose verdict is not that of gold\n"
    for contradiction in ({"which": "wrong"}, {"rows": 3}):
        with pytest.raises(UsageError, match="excludes ID"):
            ShowOptions(run="out", id="x", **contradiction)


def test_answers_are_looked_at_once(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a finished run whose answers are read to show its labels."""
    label(out.parent / "in.jsonl", out)

    def explode(*_: object) -> Any:
        raise AssertionError("answers were read")

    monkeypatch.setattr(Answers, "open", explode)
    with view(out) as found:
        assert found.done == found.rows == ROWS
