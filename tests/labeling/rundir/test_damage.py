"""Answers whose bytes have changed, that are another run's, or an older version's."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling import cli
from preftree.labeling.answers import writer
from preftree.labeling.answers.answers import ANSWERS
from preftree.labeling.runs import job
from preftree.labeling.runs.recorded import finished_run
from tests.labeling.commands import unwrapped
from tests.labeling.fakes import FakeScorer, open_fake_method
from tests.labeling.rundir.runs import ROWS, flipped, labels, parts_of, record, run, stopped

parquet = pytest.importorskip("pyarrow.parquet")


def in_parts(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A finished run with a part for each window of a few rows."""
    with monkeypatch.context() as patched:
        patched.setattr(writer, "_SECONDS", 0.0)
        run(source, out, FakeScorer(window_tokens=400))
    parts = parts_of(out)
    assert len(parts) > 3
    return parts


def rows_in(part: Path) -> list[int]:
    numbers: list[int] = sorted(set(parquet.read_table(part)["row"].to_pylist()))
    return numbers


def test_a_damaged_part_costs_its_rows_alone(
    source: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches numbers that are not those which were written, other labels, and rows that are judged for nothing."""
    out = tmp_path / "out"
    parts = in_parts(source, out, monkeypatch)
    draw = random.Random(1)
    for harm in ("flipped", "flipped", "cut", "empty", "missing"):
        part = draw.choice(parts_of(out))
        asked = [number for number in rows_in(part) if number not in (5, 7)]
        if harm == "flipped":
            flipped(part, draw.randrange(part.stat().st_size))
        elif harm == "missing":
            part.unlink()
        else:
            part.write_bytes(part.read_bytes()[:-9] if harm == "cut" else b"")
        caplog.clear()
        scorer = FakeScorer()
        run(source, out, scorer)
        assert sum(scorer.calls) == 2 * len(asked), harm
        assert labels(out) == whole, harm
        assert (f"{part} is damaged" in caplog.text) == (harm != "missing")
    assert len(parts_of(out)) == len(parts)


def test_damage_is_named_by_status_and_refused_by_aggregate(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches labels with holes, and a look that repairs or removes."""
    out = tmp_path / "out"
    part = in_parts(source, out, monkeypatch)[1]
    left = ROWS - len(rows_in(part))
    flipped(part, 100)
    before = {path: path.read_bytes() for path in (out / ANSWERS).iterdir()}
    monkeypatch.setattr(job, "open_method", open_fake_method)
    assert cli.main(["status", str(out)]) == 0
    text = unwrapped(capsys.readouterr().out)
    assert f"{part}: its checksum is not that of its bytes; `preftree label` judges its rows again" in text
    assert f"{left} of {ROWS} (" in text
    assert {path: path.read_bytes() for path in (out / ANSWERS).iterdir()} == before
    assert cli.main(["aggregate", str(out)]) == 1
    [said] = capsys.readouterr().err.splitlines()
    assert f"are damaged or missing ({part.name} its checksum is not that of its bytes)" in said
    assert "its `preftree label` command puts that right" in said


def test_parts_of_another_run_are_refused(source: Path, tmp_path: Path) -> None:
    """Catches answers about other rows that are taken for those of this run."""
    run(source, tmp_path / "other", preamble="base")
    out = stopped(source, tmp_path / "out", 3)
    part, *_ = parts_of(tmp_path / "other")  # a slow machine writes several
    shutil.copy(part, out / ANSWERS)
    with pytest.raises(OutputError, match=r"part-000001-\w+\.parquet belongs to another run; move it out of "):
        run(source, out)


def test_a_run_in_the_old_format(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches hours of answers that are thrown away without a word, or a traceback; labels can still be read."""
    out = tmp_path / "out"
    run(source, out)
    old = record(out)
    del old["answers"]
    (out / "run.json").write_text(json.dumps(old | {"versions": {**old["versions"], "preftree": "0.3"}}))
    shutil.rmtree(out / ANSWERS)
    for name in ("journal.sqlite", "journal.sqlite-wal"):
        (out / name).write_bytes(b"SQLite format 3\0")
    commands = (["label", str(source), "--out", str(out)], ["status", str(out)], ["aggregate", str(out)])
    for command in commands:
        assert cli.main(command) == 1
        [said] = capsys.readouterr().err.splitlines()
        assert (
            f"{out} was made by preftree 0.3, whose answers this version cannot read; finish it with that one" in said
        )
    assert (out / "journal.sqlite").exists()
    assert finished_run(out)["totals"]["rows"] == ROWS
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(out / "journal.sqlite", alone)
    with pytest.raises(OutputError, match=r"journal\.sqlite exists already; name another --out"):
        run(source, alone)
    run(source, out, overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == ["answers", "labels.parquet", "lock", "run.json"]
