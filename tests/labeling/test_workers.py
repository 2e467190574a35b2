"""Several processes judge one run: each its rows, none in another's way, and one makes the labels."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import OutputError, UsageError
from preftree.labeling import cli
from preftree.labeling.answers import writer
from preftree.labeling.answers.answers import ANSWERS
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.report.text import RunSummary
from preftree.labeling.runs import job
from preftree.labeling.runs.lock import RunLock
from preftree.labeling.runs.run import run_worker
from preftree.labeling.runs.status import status_lines
from tests.labeling.commands import one_error, unwrapped
from tests.labeling.fakes import FakeScorer, fake_scorer_factory, open_fake_method, row, write_rows
from tests.labeling.killing import asked
from tests.labeling.rundir.runs import Failing, flipped, labels, parts_of, record, run
from tests.processes import start_python

pytest.importorskip("pyarrow")

ROWS = 60

ONE = """
import sys, time
from pathlib import Path
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.run import run_worker
from tests.labeling.fakes import open_fake_method
from tests.labeling.killing import LoggingScorer

class Slow(LoggingScorer):
    def score(self, encoded):
        time.sleep(0.02)
        return super().score(encoded)

source, out, log, worker = sys.argv[1:]
options = LabelOptions(input=source, out=out, worker=worker, quiet=True)
scorer = Slow(Path(log))
scorer.window_tokens = 1
summary = run_worker(options, lambda *_, weights=True: scorer, open_fake_method)
print("left" if summary is None else "labels")
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = [row(id=f"id {n}", prompt=f"#id {n}#", response_a=f"this {n}") for n in range(ROWS)]
    rows[7]["prompt"] = "TOO LONG"
    return write_rows(tmp_path / "in.jsonl", rows)


@pytest.fixture
def whole(source: Path, tmp_path: Path) -> bytes:
    """The labels of one process."""
    run(source, tmp_path / "whole")
    return labels(tmp_path / "whole")


def work(source: Path, out: Any, worker: str, scorer: FakeScorer | None = None, **changes: Any) -> RunSummary | None:
    options = LabelOptions(input=str(source), out=str(out), worker=worker, **changes)
    return run_worker(options, fake_scorer_factory(scorer), open_fake_method)


def started(source: Path, out: Path, worker: str) -> subprocess.Popen[str]:
    log = str(out.with_name(f"{worker[0]}.log"))
    return start_python("-c", ONE, source, out, log, worker, stdout=subprocess.PIPE)


def test_three_processes_of_which_one_is_killed(source: Path, tmp_path: Path, whole: bytes) -> None:
    """Catches other bytes than those of one process, rows that nobody or everybody judges, and labels with holes."""
    out = tmp_path / "out"
    workers = [started(source, out, f"{index}/3") for index in (1, 2, 3)]
    deadline = time.monotonic() + 60
    while len(asked(tmp_path / "2")) < 20:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    workers[1].send_signal(signal.SIGKILL)
    assert [(one.communicate()[0].strip(), one.returncode) for one in workers] == [
        ("left", 0),
        ("", -signal.SIGKILL),
        ("left", 0),
    ]
    assert not (out / "labels.parquet").exists()
    assert "of 60 (" in "\n".join(status_lines(out))
    before = asked(tmp_path / "2")
    assert started(source, out, "2/3").communicate()[0] == "labels\n"
    assert labels(out) == whole
    assert record(out)["state"] == "complete"
    again = asked(tmp_path / "2")[len(before) :]
    assert again
    assert len({*before} & {*again}) <= 2, "what was judged in the window that was not committed"
    judged = [asked(tmp_path / str(index)) for index in (1, 2, 3)]
    assert [len({*one}) for one in judged] == [19, 20, 20]
    assert len({name for one in judged for name in one}) == ROWS - 1


def test_workers_one_after_the_other(
    source: Path, tmp_path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a worker that waits for others, one that fails because rows are left, and a record of one worker."""
    caplog.set_level(logging.INFO, "preftree")
    out = tmp_path / "out"
    assert work(source, out, "2/3") is None
    assert f"40 rows of {out} are left to other workers" in caplog.text
    assert work(source, out, "3/3") is None
    summary = work(source, out, "1/3")
    assert summary is not None
    assert summary.ok == ROWS - 1
    assert labels(out) == whole
    assert sorted(path.name for path in out.iterdir()) == ["answers", "labels.parquet", "lock", "run.json"]
    assert "worker" not in record(out)["options"]
    assert record(out)["totals"]["rows"] == ROWS
    scorer = FakeScorer()
    run(source, out, scorer)
    assert scorer.calls == []


def test_another_number_of_workers(source: Path, tmp_path: Path, whole: bytes) -> None:
    """Catches rows that are lost between two ways to divide them, or that are judged again."""
    out = tmp_path / "out"
    work(source, out, "1/2")
    assert work(source, out, "1/3", Failing(0, AssertionError("judged again"))) is None
    assert work(source, out, "2/3") is None
    scorer = FakeScorer()
    assert work(source, out, "3/3", scorer) is not None
    assert sum(scorer.calls) == 2 * 20
    assert labels(out) == whole


def test_who_excludes_whom(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches two processes that judge the same rows, and one that joins the parts of another."""
    monkeypatch.setattr(job, "open_method", open_fake_method)
    out = tmp_path / "out"
    assert work(source, out, "1/3", limit=9) is None
    me = f"process {os.getpid()} on {os.uname().nodename}"
    one, three = RunLock(out, "1/3"), RunLock(out, "3/3")
    assert f"running: worker 1/3 ({me}), worker 3/3 ({me})" in unwrapped("\n".join(status_lines(out)))
    with pytest.raises(OutputError, match=rf"out is in use by worker 1/3 \({me}\), worker 3/3 .*; wait for it, or"):
        run(source, out, limit=9)
    with pytest.raises(OutputError, match=rf"worker 3/3 of .*out is {me}; wait for it, or stop it"):
        work(source, out, "3/3", limit=9)
    assert cli.main(["aggregate", str(out)]) == 1
    assert "is in use by worker 1/3" in one_error(capsys)
    one.release()
    three.release()
    whole = RunLock(out)
    with pytest.raises(OutputError, match=f"out is in use by {me}; wait for it"):
        work(source, out, "2/3", limit=9)
    whole.release()
    assert "stopped: no process works on it" in "\n".join(status_lines(out))
    assert work(source, out, "2/3", limit=9) is None


def test_the_last_of_two_makes_the_labels(
    source: Path, tmp_path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches labels that two processes write at once, or that nobody does."""
    caplog.set_level(logging.INFO, "preftree")
    out = tmp_path / "out"
    work(source, out, "1/2")
    busy = RunLock(out, "1/2")
    assert work(source, out, "2/2") is None
    assert f"every row of {out} has answers, and worker 1/2 (process " in caplog.text
    assert not (out / "labels.parquet").exists()
    busy.release()
    assert work(source, out, "1/2", Failing(0, AssertionError("judged again"))) is not None
    assert labels(out) == whole


def test_what_others_write_is_left_alone(
    source: Path,
    tmp_path: Path,
    whole: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Catches a worker that removes drafts, sets parts aside or joins them while their process is at work."""
    monkeypatch.setattr(writer, "_SECONDS", 0.0)
    monkeypatch.setattr(writer, "_SMALL_PARTS", 4)
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError):
        work(source, out, "1/3", Failing(4, ZeroDivisionError()))
    draft = out / ANSWERS / ".part-000002-0123456789abcdef.parquet.01234567.tmp"
    draft.write_bytes(b"PAR1")
    [*others, damaged] = parts_of(out)
    assert len(others) > 1
    flipped(damaged, 50)
    monkeypatch.setattr(writer, "_SMALL_PARTS", 1)
    work(source, out, "2/3", FakeScorer(window_tokens=200))
    assert {draft, *others, damaged} <= {*(out / ANSWERS).iterdir()}
    assert len(parts_of(out)) < len(others) + 1 + 4, "a worker joins its own"
    assert f"{damaged} is damaged: its checksum is not that of its bytes; its rows are judged again" in caplog.text
    run(source, out)
    assert labels(out) == whole
    assert not draft.exists()


def test_workers_of_another_job_are_refused(source: Path, tmp_path: Path, whole: bytes) -> None:
    """Catches workers with different settings in one run, also where they begin at the same moment."""
    out = tmp_path / "out"

    class Overtaken(FakeScorer):
        def describe(self, before: Any = None) -> dict[str, Any]:
            if not out.joinpath("run.json").exists():
                assert work(source, out, "1/2") is None
            return super().describe()

    said = r"out holds another run: \d+ of its 60 rows would be left out \(--limit, --sample\); .* all workers the same"
    with pytest.raises(OutputError, match=said):
        work(source, out, "2/2", Overtaken(), limit=9)
    assert work(source, out, "2/2") is not None
    assert labels(out) == whole


def test_a_worker_that_comes_to_nothing(source: Path, tmp_path: Path) -> None:
    """Catches a directory that is left by a mistake, and one that is taken away from other workers."""
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError):
        work(source, out, "1/3", Failing(0, ZeroDivisionError()))
    assert not out.exists()
    out.mkdir()
    other = RunLock(out, "2/3")
    with pytest.raises(ZeroDivisionError):
        work(source, out, "1/3", Failing(0, ZeroDivisionError()))
    assert (out / "run.json").exists()
    other.release()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--worker", "5/4"], "--worker must be I/N"),
        (["--worker", "0/4"], "--worker must be I/N"),
        (["--worker", "1/2", "--shard", "1/2"], "--shard excludes --worker"),
        (["--worker", "1/2", "--overwrite"], "--overwrite excludes --worker"),
        (["--worker", "1/2", "--force-new"], "--worker excludes --force-new"),
        (["--worker", "1/61"], "--worker 1/61 has no rows: there are 60 in all; use fewer workers"),
    ],
)
def test_workers_that_are_none(
    arguments: list[str], said: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a typing error that judges nothing, or that removes what other workers have done."""
    assert cli.main(["label", str(source), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert said in one_error(capsys)
    assert not (tmp_path / "out").exists()


def test_workers_below_a_url(source: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches workers that need a lock, and labels made by a worker that does not look at what others have done."""
    pytest.importorskip("fsspec")
    from preftree.labeling.data.folder import folder_of

    url = f"memory://{tmp_path.name}"
    assert work(source, url, "2/2") is None
    assert work(source, url, "1/2") is not None
    assert folder_of(url).read("labels.parquet") == whole
    monkeypatch.setattr(job, "open_method", open_fake_method)
    assert cli.main(["aggregate", url, "--quiet"]) == 3


def test_a_worker_is_not_for_the_python_api(source: Path, tmp_path: Path) -> None:
    """Catches a summary that is None where labels are promised."""
    from preftree.labeling.api import label_file

    with pytest.raises(UsageError, match="there is no option 'worker'"):
        label_file(source, tmp_path / "out", worker="1/2")
