"""What others read of a run that is not finished."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling import cli
from preftree.labeling.runs import job
from preftree.labeling.runs.lock import RunLock
from preftree.labeling.runs.recorded import finished_run
from preftree.labeling.runs.status import status_lines
from tests.labeling.commands import unwrapped
from tests.labeling.fakes import open_fake_method
from tests.labeling.rundir.runs import ROWS, Failing, run, stopped

pytest.importorskip("pyarrow.parquet")


def test_unfinished_runs_are_not_taken_for_finished_ones(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches the labels of an older run that are read under the record of an unfinished one."""
    out = tmp_path / "out"
    run(source, out)
    assert finished_run(out)["totals"]["rows"] == ROWS
    with pytest.raises(ZeroDivisionError):
        run(source, out, Failing(1, ZeroDivisionError()), overwrite=True)
    with pytest.raises(OutputError, match=r"out is not finished; `preftree status` says how far it is"):
        finished_run(out)
    monkeypatch.setattr(job, "open_method", open_fake_method)
    assert cli.main(["show", str(out), "id 1"]) == 1
    assert "no row with id id 1 among the 1 row so far" in capsys.readouterr().err


def test_status(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a dead run that is called running, and a look that changes what it looks at."""
    out = stopped(source, tmp_path / "out", 20)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert cli.main(["status", str(out)]) == 0
    text = capsys.readouterr().out
    for part in ("stopped: no process works on it", "of 60 (", "3 of them rejected", "to resume"):
        assert part in text
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    lock = RunLock(out)
    assert f"running: process {os.getpid()} on " in "\n".join(status_lines(out))
    lock.release()
    run(source, out)
    assert "complete: " in unwrapped("\n".join(status_lines(out)))
    assert cli.main(["status", str(tmp_path)]) == 1
    assert "no such file" in capsys.readouterr().err
