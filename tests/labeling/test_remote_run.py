"""Runs below a URL: the same bytes, read by every command, and whole whatever becomes of an upload."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling import cli
from preftree.labeling.answers import writer
from preftree.labeling.answers.answers import ANSWERS, Answers
from preftree.labeling.data import remote_folder
from preftree.labeling.data.folder import FILE, MISSING, folder_of
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs import run as runs
from preftree.labeling.runs.run import run_label
from tests.labeling.commands import one_error, unwrapped
from tests.labeling.fakes import FakeScorer, fake_scorer_factory, row, write_rows
from tests.labeling.rundir.runs import Failing

fsspec = pytest.importorskip("fsspec")
fs = pytest.importorskip("pyarrow.fs")

ROWS = 30


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows: list[Any] = [row(id=f"id {n}", response_a=f"this {n}", gold="ab"[n % 2]) for n in range(ROWS)]
    rows[9] = b"bad"
    return write_rows(tmp_path / "in.jsonl", rows)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A URL in memory, and whatever is found there at first is nothing."""
    return f"memory://{tmp_path.name}"


def salmon(source: Path, out: Any, scorer: FakeScorer | None = None, **changes: Any) -> None:
    options = LabelOptions(input=str(source), out=str(out), method="salmon", quiet=True, **changes)
    run_label(options, fake_scorer_factory(scorer or FakeScorer(window_tokens=20_000)), open_method)


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> Any:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(runs, "load_judge", explode)


def labels(out: Any) -> bytes:
    return folder_of(str(out)).read("labels.parquet")


def parts_of(url: str) -> list[str]:
    return folder_of(url).child(ANSWERS).names("*")


def test_a_run_below_a_url(source: Path, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches other bytes than in a directory, rows that are judged twice, and copies that stay."""
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(copies))
    salmon(source, tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        salmon(source, store, Failing(12, ZeroDivisionError()))
    assert json.loads(folder_of(store).read("run.json"))["state"] == "running"
    assert folder_of(store).names("labels*") == []
    scorer = FakeScorer()
    salmon(source, store, scorer)
    per_row = sum(scorer.calls) / (ROWS - 1 - 12)
    assert per_row == round(per_row) == 22, "the rest alone"
    assert labels(store) == labels(tmp_path / "whole")
    assert folder_of(store).names("*") == ["labels.parquet", "run.json"]
    gc.collect()  # the traceback of the run that broke
    assert not list(copies.iterdir())
    again = FakeScorer()
    salmon(source, store, again)
    assert again.calls == []
    with pytest.raises(OutputError, match=r"holds another run: \d+ of its \d+ rows would be left out"):
        salmon(source, store, limit=5)
    salmon(source, store, limit=5, force_new=True)
    assert json.loads(folder_of(f"{store}-2").read("run.json"))["rows"] == 5
    salmon(source, store, overwrite=True, limit=7)
    assert json.loads(folder_of(store).read("run.json"))["rows"] == 7
    assert len(parts_of(store)) == 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["status", "URL"], "state complete: URL/labels.parquet"),
        (["report", "URL"], "labels"),
        (["report", "URL/labels.parquet"], "labels"),
        (["report", "URL", "--html", "TMP/page.html"], "page.html"),
        (["show", "URL", "id 3"], "id 3"),
        (["export", "URL", "--to", "soft", "--out", "TMP/soft.jsonl"], "exported"),
        (["instructions", "URL", "--out", "TMP/made.jsonl"], "preferences"),
        (["aggregate", "URL", "--aggregate", "won"], "labels.parquet"),
        (["aggregate", "URL", "--out", "URL-won"], "URL-won/labels.parquet"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_every_command_reads_it(
    command: list[str], said: str, source: Path, tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a command for which a URL is a path, and figures or rows that a copy on disk would not give."""
    salmon(source, store)
    salmon(source, tmp_path / "here")
    found = []
    for place in (store, str(tmp_path / "here")):
        out = tmp_path / place.rpartition("/")[2] / "files"
        out.mkdir(parents=True, exist_ok=True)
        arguments = [text.replace("URL", place).replace("TMP", str(out)) for text in command]
        assert cli.main(arguments) in (0, 3), capsys.readouterr().err
        output = capsys.readouterr()
        assert said.replace("URL", place) in unwrapped(output.out + output.err)
        found.append([path.read_bytes() for path in sorted(out.glob("soft*"))] or re.findall(r"\d\.\d+", output.out))
    if command[0] in ("report", "export", "show"):
        assert found[0] == found[1]
    if command[0] == "aggregate":
        end = "-won" if "--out" in command else ""
        assert labels(store + end) == labels(f"{tmp_path / 'here'}{end}")


def test_shards_below_urls_are_merged(source: Path, tmp_path: Path, store: str) -> None:
    """Catches shards that must be on this machine, and a joined run that must."""
    salmon(source, tmp_path / "whole")
    for index in (1, 2):
        salmon(source, f"{store}/{index}", shard=f"{index}/2")
    command = ["merge", f"{store}/2", f"{store}/1", "--out", f"{store}/merged", "--quiet"]
    assert cli.main(command) == 3
    assert labels(f"{store}/merged") == labels(tmp_path / "whole")


def test_two_writers_at_once(source: Path, tmp_path: Path, store: str) -> None:
    """Catches a writer that removes what another has written, and labels that depend on who was first."""
    salmon(source, tmp_path / "whole")

    class Overtaken(FakeScorer):
        def score(self, encoded: Any) -> Any:
            if not self.calls:
                salmon(source, store)
            return super().score(encoded)

    salmon(source, store, Overtaken(window_tokens=20_000))
    assert labels(store) == labels(tmp_path / "whole")
    assert len(parts_of(store)) == 2
    folder_of(store).remove("labels.parquet")
    salmon(source, store, Failing(0, AssertionError("judged again")))
    assert labels(store) == labels(tmp_path / "whole")


def test_what_others_write_is_seen(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a listing that fsspec remembers: answers of other workers would be missing for ever."""
    forgotten: list[Any] = []
    monkeypatch.setattr(type(fsspec.filesystem("memory")), "invalidate_cache", lambda *them: forgotten.append(them))
    one, other = folder_of(store), folder_of(store)
    assert (one.names("*"), one.kind("run.json")) == ([], MISSING)
    other.write("run.json", b"{}")
    forgotten.clear()
    assert (one.names("*"), one.kind("run.json")) == (["run.json"], FILE)
    assert len(forgotten) >= 2


class Faulty:
    """A file system in a directory, which cuts uploads whose name `matches`: an error that leaves half an object."""

    def __init__(self, directory: Path, matches: str) -> None:
        self._inner = fs.SubTreeFileSystem(str(directory), fs.LocalFileSystem())
        self.matches = matches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def delete_file(self, path: str) -> None:
        if re.search(self.matches, path):
            raise OSError("no connection")
        self._inner.delete_file(path)

    def open_output_stream(self, path: str, **options: Any) -> Any:
        stream = self._inner.open_output_stream(path, **options)
        return _Cut(stream) if re.search(self.matches, path) else stream


class _Cut:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __enter__(self) -> _Cut:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def write(self, data: bytes) -> None:
        self._stream.write(data[: len(data) // 2])
        raise RuntimeError("the peer\nhas gone")


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Faulty:
    (tmp_path / "bucket").mkdir()
    system = Faulty(tmp_path / "bucket", "nothing")
    monkeypatch.setattr(remote_folder, "filesystem_of", lambda url: (system, url.partition("://")[2]))
    monkeypatch.setattr(writer, "_SECONDS_OF_UPLOADS", 0.0)
    return system


@pytest.mark.parametrize("what", ["part-", "labels", "run.json"])
def test_an_upload_that_breaks_off(
    what: str, faulty: Faulty, source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches half an object that is taken for a whole one, a traceback, and rows that are lost with it."""
    salmon(source, tmp_path / "whole")
    faulty.matches = what
    with pytest.raises(OutputError, match=r"cannot write to s3://run(/answers)?: the peer has gone") as error:
        salmon(source, "s3://run")
    assert len(str(error.value).splitlines()) == 1
    faulty.matches = "nothing"
    scorer = FakeScorer()
    if what == "run.json":
        with pytest.raises(OutputError, match=r"s3://run/run\.json is no record of a run"):
            salmon(source, "s3://run")
        salmon(source, "s3://run", scorer, overwrite=True)
    else:
        salmon(source, "s3://run", scorer)
    assert labels("s3://run") == labels(tmp_path / "whole")
    assert bool(scorer.calls) == (what != "labels")
    assert ("is damaged: its checksum is not that of its bytes; its rows are judged again" in caplog.text) == (
        what == "part-"
    )
    answers = Answers.open(folder_of("s3://run/answers"))
    assert bool(answers.damaged) == (what == "part-"), "it may be another writer's, so it stays"


def failing(error: Exception) -> Callable[[str], Any]:
    def opened(url: str) -> Any:
        raise error

    return opened


class Denied:
    def __getattr__(self, name: str) -> Any:
        def refuse(*_: object, **__: object) -> Any:
            raise OSError("AWS Error ACCESS_DENIED\nduring HeadObject operation")

        return refuse


@pytest.mark.parametrize(
    ("opened", "said"),
    [
        (
            failing(ImportError("No module named 'fsspec'")),
            r"needs a package that .*: pip install 'preftree\[remote\]'",
        ),
        (failing(OSError("When resolving region for bucket 'b':\nAWS Error")), "cannot open xy://b/run: When resol"),
        (failing(RuntimeError()), "cannot open xy://b/run: RuntimeError"),
        (lambda _: (Denied(), "b/run"), r"xy://b/run\S*: AWS Error ACCESS_DENIED"),
    ],
)
def test_what_cannot_be_reached(
    opened: Any,
    said: str,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches tracebacks of other people's libraries, and a model that is loaded before they come."""
    monkeypatch.setattr(remote_folder, "filesystem_of", opened)
    url = "xy://b/run"
    commands = [
        ["label", str(source), "--out", url],
        ["label", str(source), "--out", url, "--force-new"],
        ["status", url],
        ["report", url],
        ["report", url, "--html", str(tmp_path / "page.html")],
        ["show", url, "x"],
        ["export", url, "--to", "soft", "--out", str(tmp_path / "x.jsonl")],
        ["instructions", url, "--out", str(tmp_path / "x.jsonl")],
        ["aggregate", url],
        ["merge", url, "--out", str(tmp_path / "merged")],
    ]
    for command in commands:
        assert cli.main(command) == 1, command
        assert re.search(said, one_error(capsys)), command


def test_a_url_without_a_run(tmp_path: Path, store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an empty report of a misspelled URL."""
    for command in (["status", store], ["show", store, "x"], ["aggregate", store]):
        assert cli.main(command) == 1
        assert f"no such file: {store}/run.json; name a directory" in one_error(capsys)
    assert cli.main(["report", store]) == 1
    assert f"no such file: {store}/run.json; name a directory that" in one_error(capsys)
