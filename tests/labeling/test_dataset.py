"""Inputs of many kinds: the same rows get the same labels from all of them, and what is wrong is one line."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preftree import label
from preftree.engine.errors import InputError, OutputError
from preftree.labeling.data import inputs
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.recorded import labelled_input
from preftree.labeling.runs.run import run_label
from preftree.labeling.runs.status import status_lines
from preftree.labeling.types import Pair, Rejected
from tests.labeling.commands import preftree, unwrapped
from tests.labeling.fakes import FakeMethod, FakeScorer, fake_scorer_factory, open_fake_method, row, write_rows
from tests.labeling.files import WRITERS, json_lines
from tests.labeling.opened import info_of, read

pa = pytest.importorskip("pyarrow")
fs = pytest.importorskip("pyarrow.fs")
parquet = pytest.importorskip("pyarrow.parquet")
fsspec = pytest.importorskip("fsspec")

# The fourth row has an id of its line, the seventh the id of the second.
ROWS = [row(id=f"row {n}", prompt=f"{n}?", response_a="this " * n, gold="ab"[n % 2], note=n) for n in range(1, 10)]
ROWS[3] = {name: value for name, value in ROWS[3].items() if name != "id"}
ROWS[6] = ROWS[6] | {"id": "row 2"}
PARTS = {"1": ROWS[:4], "2": ROWS[4:5], "3": ROWS[5:]}


def labels(out: Path, source: Any, **options: Any) -> Any:
    settings = LabelOptions(input=source, out=str(out), quiet=True, **options)
    run_label(settings, fake_scorer_factory(), open_fake_method)
    return parquet.read_table(out / "labels.parquet")


@pytest.fixture
def expected(tmp_path: Path) -> Any:
    """The labels of one JSONL file with all rows."""
    return labels(tmp_path / "expected", str(write_rows(tmp_path / "whole.jsonl", ROWS)))


@pytest.fixture
def shards(tmp_path: Path) -> list[str]:
    """Files whose names, sorted, are in the order of the rows."""
    folder = tmp_path / "shards"
    folder.mkdir()
    return [str(write_rows(folder / f"{name}.jsonl", rows)) for name, rows in PARTS.items()]


def memory(name: str, rows: list[Any]) -> None:
    with fsspec.filesystem("memory").open(name, "wb") as file:
        file.write(json_lines(rows))


def without_places(table: Any) -> list[dict[str, Any]]:
    """Rows whose reasons do not say in which file a line is."""
    return [one | {"reason": one["reason"] and one["reason"].split(": ", 1)[1]} for one in table.to_pylist()]


def as_files(shards: list[str]) -> Any:
    return tuple(shards)


def as_pattern(shards: list[str]) -> Any:
    return str(Path(shards[0]).parent / "[1-3]*.json?")


def as_folder(shards: list[str]) -> Any:
    folder = Path(shards[0]).parent
    (folder / "README.md").write_text("not data")
    (folder / ".hidden.jsonl").write_text("not data")
    return str(folder)


def as_file_url(shards: list[str]) -> Any:
    return Path(shards[0]).parent.as_uri()


def as_memory(shards: list[str]) -> Any:
    for name, rows in PARTS.items():
        memory(f"/files/{name}.jsonl", rows)
    return tuple(f"memory://files/{name}.jsonl" for name in PARTS)


def as_memory_pattern(shards: list[str]) -> Any:
    memory("/deep/4/more/data.jsonl", [{"too": "deep"}])
    for name, rows in PARTS.items():
        memory(f"/deep/{name}/data.jsonl", rows)
    return "memory://deep/*/da*.jsonl"


def as_memory_folder(shards: list[str]) -> Any:
    memory("/folder/README.md", [])
    for name, rows in PARTS.items():
        memory(f"/folder/{name}.jsonl", rows)
    return "memory://folder"


@pytest.mark.parametrize(
    "spell",
    [as_files, as_pattern, as_folder, as_file_url, as_memory, as_memory_pattern, as_memory_folder],
    ids=lambda spell: spell.__name__,
)
def test_the_same_labels_from_every_place(
    spell: Callable[..., Any], shards: list[str], tmp_path: Path, expected: Any
) -> None:
    """Catches rows in another order, ids of lines that begin anew in each file, a repeated id in another file."""
    source = spell(shards)
    found = labels(tmp_path / "out", source)
    assert without_places(found) == without_places(expected)
    assert found["id"].to_pylist()[3] == "line-4"
    assert found["reason"].to_pylist()[6].endswith('line 2: duplicate id: "row 2" was used by an earlier row')
    assert expected["reason"].to_pylist()[6].startswith("line 7: ")


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_labels_from_shards_of_every_format(name: str, tmp_path: Path, expected: Any) -> None:
    """Catches numbers that begin anew, and columns of a shard that get a kind of their own."""
    parts = []
    for part, rows in PARTS.items():
        (tmp_path / part).mkdir()
        WRITERS[name](tmp_path / part / name, rows)
        parts.append(str(tmp_path / part / name))
    table = labels(tmp_path / "out", tuple(parts))
    if name == "x.csv":  # every field of it is text
        expected = expected.set_column(expected.column_names.index("note"), "note", expected["note"].cast("string"))
    assert without_places(table) == without_places(expected)


def as_pandas(rows: list[dict[str, Any]]) -> Any:
    return pytest.importorskip("pandas").DataFrame(rows)


def as_dataset(rows: list[dict[str, Any]]) -> Any:
    """One that has its rows in another order on disk."""
    whole = pytest.importorskip("datasets").Dataset.from_list(rows[::-1])
    return whole.select(range(len(rows) - 1, -1, -1))


def as_stream(rows: list[dict[str, Any]]) -> Any:
    return pytest.importorskip("datasets").Dataset.from_list(rows).to_iterable_dataset()


def test_splits_in_memory_are_refused() -> None:
    splits = pytest.importorskip("datasets").DatasetDict({"train": as_dataset(ROWS)})
    with pytest.raises(InputError, match="DatasetDict is no collection of rows; use a list"):
        label(splits, FakeScorer(), FakeMethod())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "convert", [list, iter, pa.Table.from_pylist, as_pandas, as_dataset, as_stream], ids=lambda f: f.__name__
)
def test_the_same_labels_from_objects(convert: Callable[..., Any], expected: Any) -> None:
    found = label(convert(ROWS), FakeScorer(), FakeMethod())  # type: ignore[arg-type]
    assert found.to_arrow().to_pylist() == expected.to_pylist()


def test_lines_count_across_files(tmp_path: Path) -> None:
    """Catches ids that another file's blank lines or lack of a last line feed would shift."""
    parts = [
        json_lines(ROWS[3:4]) + b"\n \n",
        b"",
        b"\xef\xbb\xbf" + json_lines(ROWS[3:4]).rstrip(b"\n"),
        b"\nno JSON\n",
    ]
    files = [tmp_path / f"{place}.jsonl" for place in range(len(parts))]
    for file, part in zip(files, parts, strict=True):
        file.write_bytes(part)
    whole = tmp_path / "whole.jsonl"
    whole.write_bytes(parts[0] + json_lines(ROWS[3:4]) + parts[3])
    dataset = Dataset.open(files)
    assert [item.line for item in dataset.read()] == [item.line for item in read(whole)] == [1, 4, 6]
    assert [dataset.info.place(item.line) for item in dataset.read()] == [
        "0.jsonl, line 1",
        "2.jsonl, line 1",
        "3.jsonl, line 2",
    ]
    assert [item.id for item in dataset.read()] == ["line-1", "line-4", None]


def test_limit_and_shares_are_of_all_files(shards: list[str], tmp_path: Path, expected: Any) -> None:
    """Catches a limit or a share that is taken of each file."""
    limited = labels(tmp_path / "limit", tuple(shards), limit=5)
    assert without_places(limited) == without_places(expected)[:5]
    share = labels(tmp_path / "share", tuple(shards), shard="2/3")
    assert without_places(share) == without_places(expected)[3:6]


def test_runs_over_several_files_resume(shards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a run that is made again for another spelling, or resumed over other rows."""
    out = tmp_path / "out"
    before = labels(out, tuple(shards))
    record = json.loads((out / "run.json").read_text())
    assert record["input"]["path"] == shards
    assert "1.jsonl and 2 more" in unwrapped("\n".join(status_lines(out)))
    scorer = FakeScorer()
    options = LabelOptions(input=str(Path(shards[0]).parent), out=str(out), quiet=True)
    run_label(options, fake_scorer_factory(scorer), open_fake_method)
    assert scorer.calls == []
    assert parquet.read_table(out / "labels.parquet").equals(before)
    assert [item.line for item in labelled_input(record, None).read()] == list(range(1, 10))

    write_rows(Path(shards[1]), [ROWS[4] | {"note": 0}])
    with pytest.raises(OutputError, match=r"holds another run: input.sha256 of .*2.jsonl was .* and is .* now"):
        labels(out, tuple(shards))
    with pytest.raises(InputError, match=r"2.jsonl is not the file that was labelled"):
        labelled_input(record, None)
    Path(shards[1]).unlink()
    with pytest.raises(InputError, match=r"1.jsonl and 1 more is not the file that was labelled"):
        labelled_input(record, str(Path(shards[0]).parent))


def test_a_file_that_changes_meanwhile_is_named(shards: list[str], tmp_path: Path) -> None:
    class Changing(FakeScorer):
        def score(self, encoded: Any) -> Any:
            write_rows(Path(shards[2]), [*PARTS["3"], row(id="new")])
            return super().score(encoded)

    options = LabelOptions(input=tuple(shards), out=str(tmp_path / "out"), quiet=True)
    with pytest.raises(InputError, match=r"3.jsonl changed while it was being labelled"):
        run_label(options, fake_scorer_factory(Changing()), open_fake_method)


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expected: Any) -> None:
    """Catches a stream that is read twice, and a run that is resumed with another one."""

    def pipe(rows: list[Any]) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json_lines(rows))))

    pipe(ROWS)
    assert labels(tmp_path / "out", "-").equals(expected)
    pipe(ROWS)
    assert labels(tmp_path / "out", "-").equals(expected)
    pipe(ROWS[:-1])
    with pytest.raises(OutputError, match=r"holds another run: input.rows was 9 and is 8 now"):
        labels(tmp_path / "out", "-")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    with pytest.raises(InputError, match="came from standard input; name a file with the same bytes with --input"):
        labelled_input(record, None)
    assert labelled_input(record, str(tmp_path / "whole.jsonl")).info.rows == 9
    terminal = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", terminal)
    with pytest.raises(InputError, match="that is a terminal; pipe rows into it"):
        info_of("-")


def test_several_inputs_on_the_command_line(shards: list[str]) -> None:
    result = preftree("plan", *shards[:2], "-", input=json_lines(PARTS["3"]).decode())
    assert result.returncode == 0, result.stderr
    assert "rows           9, 1 of them to be rejected" in result.stdout


def test_copies_last_as_long_as_the_dataset(shards: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches copies that fill a disk, and a run that reads a remote file more than once."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dataset = Dataset.open(as_memory(shards))
    assert dataset.files[0].path.is_relative_to(tmp_path)
    fsspec.filesystem("memory").rm("/files", recursive=True)
    assert dataset.info.rows == len(list(dataset.read())) == 9
    assert list(tmp_path.glob("preftree-*"))
    del dataset
    assert not list(tmp_path.glob("preftree-*"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutputError, match=r"cannot write a temporary file in .*gone: .*TMPDIR"):
        Dataset.open(as_memory(shards))


def test_buckets_through_pyarrow(shards: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a pattern, a query or a bucket's name that a file system gets to see in another way."""
    asked = []

    def opened(url: str) -> tuple[Any, str]:
        asked.append(url)
        return fs.SubTreeFileSystem(str(Path(shards[0]).parent.parent), fs.LocalFileSystem()), "shards"

    monkeypatch.setattr(inputs, "filesystem_of", opened)
    dataset = Dataset.open("s3://bucket/shards/*.jsonl?region=eu-central-1")
    assert asked == ["s3://bucket/shards?region=eu-central-1"]
    assert len(list(dataset.read())) == 9
    assert dataset.paths[0] == "s3://bucket/shards/1.jsonl?region=eu-central-1"
    assert dataset.name == "s3://bucket/shards/1.jsonl and 2 more"


def test_the_hub_through_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    memory("/datasets/org/name/test.jsonl", ROWS)
    monkeypatch.setattr(hub.HfFileSystem, "info", lambda self, path, **_: fsspec.filesystem("memory").info(f"/{path}"))
    monkeypatch.setattr(
        hub.HfFileSystem, "open", lambda self, path, *mode, **_: fsspec.filesystem("memory").open(f"/{path}")
    )
    assert info_of("hf://datasets/org/name/test.jsonl").rows == 9


def failing(error: Exception) -> Callable[[str], Any]:
    def opened(url: str) -> Any:
        raise error

    return opened


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ImportError("No module named 'fsspec'"),
            r"xy:// needs a package .* \(No module named 'fsspec'\): pip install 'pre",
        ),
        (
            OSError("When resolving region for bucket 'b': AWS Error NETWORK_CONNECTION\n"),
            "cannot read xy://b/x.jsonl: Wh",
        ),
        (RuntimeError(), "cannot read xy://b/x.jsonl: RuntimeError"),
        (
            ImportError("Install adlfs to access it."),
            r"xy:// needs a package that is not installed \(Install adlfs to access it\)$",
        ),
        (FileNotFoundError("x"), "no such file: xy://b/x.jsonl"),
        (None, "cannot read xy://b/x.jsonl: Protocol not known: xy"),
    ],
)
def test_what_cannot_be_reached(error: Exception | None, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches tracebacks of other people's libraries."""
    if error is not None:
        monkeypatch.setattr(inputs, "filesystem_of", failing(error))
    with pytest.raises(InputError, match=message) as caught:
        info_of("xy://b/x.jsonl")
    assert "\n" not in str(caught.value)


def test_a_scheme_without_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(InputError, match=r"memory:// needs a package .*fsspec.*: pip install 'preftree\[remote\]'"):
        info_of("memory://x.jsonl")


def test_what_names_no_rows_is_one_line(shards: list[str], tmp_path: Path) -> None:
    """Catches a typing error that labels nothing, or labels one file twice, and columns dropped in silence."""
    other = str(write_rows(tmp_path / "other.jsonl", [{"instruction": "Why?", "output_1": "x", "output_2": "y"}]))
    single = str(write_rows(tmp_path / "single.jsonl", [{"id": "1", "prompt": "Why?", "response": "x"}]))
    chosen = str(write_rows(tmp_path / "chosen.jsonl", [{"prompt": "Why?", "chosen": "x", "rejected": "y"}]))
    table, narrow, comma, wide = (str(tmp_path / name) for name in ("x.parquet", "y.parquet", "x.csv", "y.csv"))
    WRITERS["x.parquet"](Path(table), ROWS[:2])
    WRITERS["x.parquet"](Path(narrow), [row(id="1")])
    WRITERS["x.csv"](Path(comma), [row(id="1")])
    WRITERS["x.csv"](Path(wide), ROWS[:1])
    (tmp_path / "empty").mkdir()
    memory("/none/README.md", [])
    again = str(tmp_path / "again.jsonl")
    Path(again).symlink_to(shards[0])
    cases: list[tuple[Any, str]] = [
        (str(tmp_path / "*.josnl"), r"no file matches .*\*\.josnl"),
        ("memory://none/*.jsonl", r"no file matches memory://none/\*\.jsonl"),
        ("memory://none/x.jsonl", "no such file: memory://none/x.jsonl"),
        (str(tmp_path / "empty"), "empty is a directory without data files; their names end in .jsonl"),
        ("memory://none", "memory://none is a directory without data files"),
        ((), "no input is named"),
        ((shards[0], ""), "or one by an empty name"),
        ((shards[0], shards[0]), "1.jsonl is named twice; name it once"),
        ((shards[0], again), r"again.jsonl and .*1.jsonl are the same file; name it once"),
        ((shards[0], table), r"1.jsonl is JSONL and .*x.parquet Parquet; label one at a time"),
        (
            (shards[0], other),
            r"different columns: .*1.jsonl has gold, id, .* and .*other.jsonl has instruction, output_1",
        ),
        ((single, chosen), r"different columns: .*single.jsonl has id, .* and .*chosen.jsonl has chosen"),
        ((table, narrow), r"different columns: .*x.parquet has gold, id, note, .* and .*y.parquet has id, prompt"),
        ((comma, wide), r"different columns: .*x.csv has id, .* and .*y.csv has gold"),
    ]
    for source, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            info_of(source)
        assert "\n" not in str(caught.value)


def test_a_name_that_looks_like_a_pattern(tmp_path: Path) -> None:
    """Catches a file that cannot be named, and one that a run cannot find again."""
    path = write_rows(tmp_path / "part[1].jsonl", ROWS)
    assert info_of(path).rows == 9


def test_columns_of_shards_are_joined(tmp_path: Path) -> None:
    """Catches a column that one shard has no values of, and integers that become floats in another."""
    base = {name: [value] for name, value in row(id=None).items()}
    columns = [
        {"none": pa.nulls(1), "mixed": pa.array([1]), "exact": pa.array([2**53 + 1]), "odd": pa.array(["x"])},
        {"none": pa.array([5]), "mixed": pa.array([0.5]), "exact": pa.array([0.5]), "odd": pa.array([True])},
    ]
    for place, more in enumerate(columns):
        parquet.write_table(pa.table(base | more), tmp_path / f"{place}.parquet")
    found = info_of(tmp_path)
    assert found.columns == {"none": "int", "mixed": "float", "exact": "json", "odd": "json"}
    assert found.about.startswith("2 files of Parquet, preftree's own columns")
    table = labels(tmp_path / "out", str(tmp_path))
    assert table["none"].to_pylist() == [None, 5]
    assert table["exact"].to_pylist() == [str(2**53 + 1), "0.5"]
    assert [type(item) for item in read(tmp_path)] == [Pair, Pair]


def test_only_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    """Catches a method that scores single responses being asked for two."""
    path = write_rows(tmp_path / "in.jsonl", [{"question": "Why?", "output": "x"}])
    with pytest.raises(InputError, match=r"name them, such as --map prompt=question$"):
        info_of(path, ["response=output"])


def test_rejected_rows_keep_their_place(tmp_path: Path) -> None:
    files = [write_rows(tmp_path / f"{name}.jsonl", [row(id=name), b"bad"]) for name in "ab"]
    table = labels(tmp_path / "out", tuple(map(str, files)))
    assert [reason and reason.split(": ")[0] for reason in table["reason"].to_pylist()] == [
        None,
        "a.jsonl, line 2",
        None,
        "b.jsonl, line 2",
    ]
    assert [isinstance(item, Rejected) for item in read(files)] == [False, True, False, True]  # type: ignore[arg-type]
