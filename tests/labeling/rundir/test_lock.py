"""One process at a time works on a run's directory."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling.runs.lock import RunLock, holder
from tests.labeling.rundir.runs import Failing, run
from tests.processes import start_python

pytest.importorskip("pyarrow.parquet")


def test_a_second_process_stays_out(source: Path, tmp_path: Path) -> None:
    """Catches two runs in one directory, and a lock that outlives its process."""
    out = tmp_path / "out"
    out.mkdir()
    code = (
        "import sys, pathlib\nfrom preftree.labeling.runs.lock import RunLock\n"
        "lock = RunLock(pathlib.Path(sys.argv[1]))\nprint('locked', flush=True)\nsys.stdin.read()"
    )
    with start_python("-c", code, out, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        assert holder(out) == f"process {other.pid} on {os.uname().nodename}"
        with pytest.raises(OutputError, match=f"out is in use by process {other.pid} on .*; wait for it, or stop it"):
            run(source, out)
        other.kill()
    assert holder(out) is None
    run(source, out)


def test_a_look_does_not_lock_out(tmp_path: Path) -> None:
    """Catches `preftree status` that makes a run fail which begins at the same moment."""
    lock = RunLock(tmp_path)
    assert holder(tmp_path) is not None
    lock.release()
    assert holder(tmp_path) is None
    RunLock(tmp_path).release()


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "directory"])
def test_a_lock_that_is_no_file_is_left_alone(kind: str, source: Path, tmp_path: Path) -> None:
    """Catches a link named lock whose target is emptied, and a pipe that is waited for."""
    out, precious = tmp_path / "out", tmp_path / "precious"
    out.mkdir()
    precious.write_text("years of work")
    made = {
        "link": lambda path: path.symlink_to(precious),
        "dangling link": lambda path: path.symlink_to(tmp_path / "none"),
        "pipe": os.mkfifo,
        "directory": Path.mkdir,
    }
    made[kind](out / "lock")
    with pytest.raises(OutputError, match=r"out/lock is a .*, and must be a file; remove it, or name another"):
        run(source, out, Failing(0, AssertionError("the model was asked")))
    assert holder(out) is None
    assert precious.read_text() == "years of work"
    assert [path.name for path in out.iterdir()] == ["lock"]
    assert not (tmp_path / "none").exists()
