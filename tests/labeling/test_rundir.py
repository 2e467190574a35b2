"""A run outlives whatever ends its process: kills, full disks, flipped bytes, a second process; and says what it is."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling import cli
from preftree.labeling.answers import writer
from preftree.labeling.answers.answers import ANSWERS, Answers
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.report.text import RunSummary
from preftree.labeling.runs import job
from preftree.labeling.runs.lock import RunLock, holder
from preftree.labeling.runs.recorded import finished_run
from preftree.labeling.runs.run import run_label
from preftree.labeling.runs.status import status_lines
from tests.labeling.commands import unwrapped
from tests.labeling.fakes import FakeMethod, FakeScorer, fake_scorer_factory, open_fake_method, row, write_rows
from tests.processes import answered, printed, start_python

parquet = pytest.importorskip("pyarrow.parquet")

ROWS = 60


class Failing(FakeScorer):
    """Breaks at a window of one's choice, from 0; one row a window."""

    def __init__(self, at: int, error: BaseException) -> None:
        super().__init__(window_tokens=1)
        self._at, self._error = at, error

    def score(self, encoded: Any) -> Any:
        if len(self.calls) == self._at:
            raise self._error
        return super().score(encoded)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Sixty rows of which three cannot be labelled, each for another reason."""
    rows: list[Any] = [row(id=f"id {n}", response_a=f"this {n}", gold="ab"[n % 2], note=n) for n in range(ROWS)]
    rows[5] = {**rows[5], "prompt": "TOO LONG"}
    rows[6] = {**rows[6], "prompt": "NOT FINITE"}
    rows[7] = b"bad"
    return write_rows(tmp_path / "in.jsonl", rows)


@pytest.fixture
def whole(source: Path, tmp_path: Path) -> bytes:
    """The labels of an uninterrupted run."""
    run(source, tmp_path / "whole")
    return labels(tmp_path / "whole")


def run(source: Path, out: Path, scorer: FakeScorer | None = None, **changes: Any) -> RunSummary:
    options = LabelOptions(input=str(source), out=str(out), quiet=True, **changes)
    return run_label(options, fake_scorer_factory(scorer), open_fake_method)


def stopped(source: Path, out: Path, after: int, **changes: Any) -> Path:
    """A run that broke in the window of the row `after`, counted without those that never reach the model."""
    with pytest.raises(ZeroDivisionError):
        run(source, out, Failing(after, ZeroDivisionError("broken")), **changes)
    return out


def labels(out: Path) -> bytes:
    return (out / "labels.parquet").read_bytes()


def record(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text())
    return found


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


# the lock


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


@pytest.mark.parametrize("name", ["run.json", "labels.parquet", "answers"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_links_in_the_place_of_a_runs_files(name: str, overwrite: bool, source: Path, tmp_path: Path) -> None:
    """Catches files elsewhere that are written, or removed, through a link."""
    run(source, tmp_path / "other")
    before = {path: path.read_bytes() for path in (tmp_path / "other").rglob("*") if path.is_file()}
    out = stopped(source, tmp_path / "out", 20)
    if (out / name).exists():
        (out / name).rename(tmp_path / "moved")
    (out / name).symlink_to(tmp_path / "other" / name)
    with pytest.raises(OutputError, match=rf"out/{name} is a link; remove it, or name another --out"):
        run(source, out, overwrite=overwrite)
    assert {path: path.read_bytes() for path in (tmp_path / "other").rglob("*") if path.is_file()} == before


def test_a_link_that_comes_later_is_replaced(source: Path, tmp_path: Path, whole: bytes) -> None:
    """Catches labels or a record that are written through a link which is made while rows are judged."""
    out, precious = tmp_path / "out", tmp_path / "precious"
    precious.write_text("years of work")

    class Linking(FakeScorer):
        def score(self, encoded: Any) -> Any:
            for name in ("labels.parquet", "run.json"):
                (out / name).unlink(missing_ok=True)
                (out / name).symlink_to(precious)
            return super().score(encoded)

    run(source, out, Linking())
    assert precious.read_text() == "years of work"
    assert labels(out) == whole
    assert not (out / "labels.parquet").is_symlink()
    assert record(out)["state"] == "complete"


# disks


FULL = """
import resource, sys
from tests.labeling.test_rundir import *

limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    run(Path(sys.argv[1]), Path(sys.argv[2]), FakeScorer(window_tokens=int(sys.argv[4])))
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("window_tokens", [200, 20_000], ids=["joining parts", "writing a part"])
def test_a_full_disk(window_tokens: int, tmp_path: Path) -> None:
    """Catches a traceback, half a part that is taken for one, and finished rows lost."""
    rows = [row(id=f"id {n}", prompt=f"Which of {n}? " * 9) for n in range(400)]
    source = write_rows(tmp_path / "in.jsonl", rows)
    out = tmp_path / "out"
    code = "from tests.labeling.test_rundir import writer\nwriter._SECONDS = 0.0" + FULL
    said = printed("-c", code, source, out, 7000, window_tokens)
    assert "answers that are there are kept" in said
    assert "run the same command again" in said
    assert len(said.splitlines()) == 1
    kept = sum(1 for _ in Answers.open(out / ANSWERS).entries())
    assert kept > 10
    scorer = FakeScorer()
    run(source, out, scorer)
    assert sum(scorer.calls) == 2 * (400 - kept)


def test_a_read_only_directory(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a traceback, and a model that is loaded for nothing."""
    (tmp_path / "out").mkdir()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match=r"cannot write to .*out: Permission denied"):
        run(source, tmp_path / "out", Failing(0, AssertionError("the model was asked")))


# damage


def parts_of(out: Path) -> list[Path]:
    return sorted((out / ANSWERS).glob("part-*.parquet"))


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


def flipped(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


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


# what others read


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
