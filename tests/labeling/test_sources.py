"""Every format gives the same samples, and says in one line what is wrong with a file."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow")

from preftree.engine.errors import InputError  # noqa: E402
from preftree.labeling.data import arrow, csv, jsonl  # noqa: E402
from preftree.labeling.options.runs import LabelOptions  # noqa: E402
from preftree.labeling.runs.run import run_label  # noqa: E402
from preftree.labeling.types import Message, Pair, Rejected, Response, ResponseSet  # noqa: E402
from tests.labeling.fakes import fake_scorer_factory, open_fake_method, row  # noqa: E402
from tests.labeling.files import WRITERS, json_lines, write_csv, write_saved  # noqa: E402
from tests.labeling.opened import info_of, read, sha256_of  # noqa: E402

TABLES = [name for name in WRITERS if "jsonl" not in name and name != "x.csv"]
TEXT = "Zeile eins,\n\"zwei\"\r\n\x00\x1b[31m \U0001f600 'drei'; "


def write(directory: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path = directory / name
    WRITERS[name](path, rows)
    return path


def items(path: Path, *mapping: str) -> list[Any]:
    return list(read(path, mapping=mapping, repeated=info_of(path, mapping).repeated))


# the same rows


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_pairs(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a text changed by a format, rows lost or repeated between batches and files, another id without one."""
    monkeypatch.setattr(arrow, "BATCH_ROWS", 3)
    rows = [row(id=None, prompt=f"{n} {TEXT}", response_a=TEXT, gold=["a", "b", "tie", None][n % 4]) for n in range(20)]
    rows = [{**entry, "note": f"note {n}"} for n, entry in enumerate(rows)]
    path = write(tmp_path, name, rows)
    for number, (item, entry) in enumerate(zip(items(path), rows, strict=True), start=1):
        prompt = (Message("user", entry["prompt"]),)
        extra = {"note": entry["note"]}
        assert item == Pair(f"line-{number}", prompt, TEXT, "that", entry.get("gold"), extra, number)
    found = info_of(path)
    assert (found.rows, found.columns, found.has_gold) == (20, {"note": "string"}, True)
    assert sha256_of(path) == sha256_of(path)
    assert len(list(read(path, 7))) == 7


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.jsonl.zst", *TABLES])
def test_conversations_lists_and_kinds(tmp_path: Path, name: str) -> None:
    """Catches messages and lists that come out of Arrow as something else, and kinds of columns that it knows."""
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    rows = [
        {"id": n, "prompt": messages, "responses": ["x", f"{n}"], "n": n, "x": n / 2, "flag": n > 1, "deep": {"k": [n]}}
        for n in range(4)
    ]
    path = write(tmp_path, name, rows)
    assert items(path) == items(write(tmp_path, "x.jsonl", rows))
    assert all(isinstance(item, ResponseSet) for item in items(path))
    assert info_of(path).columns == {"n": "int", "x": "float", "flag": "bool", "deep": "json"}


@pytest.mark.parametrize("name", ["x.jsonl", *TABLES])
def test_samples_of_several_kinds(tmp_path: Path, name: str) -> None:
    """Catches a null that Arrow puts where a row has no such column, taken for a bad value."""
    one, many = {"id": "s", "response": "r"}, {"id": "m", "responses": ["x", "y"]}
    rows = [row(id="p", gold="a"), {"prompt": "p", **one}, {"prompt": "p", **many}]
    path = write(tmp_path, name, rows)
    assert [type(item) for item in items(path)] == [Pair, Response, ResponseSet]
    found = info_of(path)
    assert (found.columns, len(found.first_lines), found.has_gold) == ({}, 3, True)


@pytest.mark.parametrize("name", WRITERS)
def test_bad_rows_are_rejected_alone(tmp_path: Path, name: str) -> None:
    """Catches a file given up for one row, and a bad row that is let in by one format only."""
    rows = [
        row(id="1"),
        row(id="2", response_a=" \u3000"),
        row(id="1"),
        row(id="4", gold="C"),
        row(id="5", prompt="\t"),
    ]
    rows += [{**row(id="6"), "response_b": None}, row(id=" "), row(id="8")]
    found = items(write(tmp_path, name, rows))
    assert [item.id for item in found if isinstance(item, Pair)] == ["1", "4", "8"]
    reasons = [item.reason.split(":")[0] for item in found if isinstance(item, Rejected)]
    assert reasons == ["blank text", "duplicate id", "blank text", "wrong type", "blank text"]
    assert [item.line for item in found] == list(range(1, 9))


@pytest.mark.parametrize("name", TABLES)
def test_numbers_as_texts_are_rejected(tmp_path: Path, name: str) -> None:
    [item] = items(write(tmp_path, name, [row(response_a=5)]))
    assert item.reason == "wrong type: response_a must be a string, found a number"


ANY_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "prompt": st.text(),
            "response_a": st.text(),
            "response_b": st.text(),
            "gold": st.sampled_from(["a", "b", None]),
        },
        optional={"note": st.none() | st.text(min_size=1)},
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ANY_ROWS)
def test_any_rows_are_the_same_in_every_format(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    """Catches quoting, line ends, control characters and empty fields that one format treats in its own way."""
    directory = tmp_path_factory.mktemp("any")
    expected = items(write(directory, "x.jsonl", rows))
    for name in WRITERS:
        if name == "x.jsonl":
            continue
        for one, other in zip(items(write(directory, name, rows)), expected, strict=True):
            assert type(one) is type(other)
            assert {k: v for k, v in one.extra.items() if v is not None} == {
                k: v for k, v in other.extra.items() if v is not None
            }
            if isinstance(one, Pair):
                assert (one.id, one.prompt, one.response_a, one.response_b, one.gold) == (
                    other.id, other.prompt, other.response_a, other.response_b, other.gold
                )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "x.jsonl"])
def test_the_same_labels_from_every_format(tmp_path: Path, name: str) -> None:
    """Catches a prompt that one format spells differently: the bits of labels would tell."""
    rows = [row(id=f"row {n}", prompt=f"{n} {TEXT}", gold="ab"[n % 2], note=f"note {n}") for n in range(9)]
    found = []
    for source in ("x.jsonl", name):
        path, out = write(tmp_path, source, rows), tmp_path / f"{source}.out"
        options = LabelOptions(input=str(path), out=str(out), quiet=True)
        run_label(options, fake_scorer_factory(), open_fake_method)
        found.append((out / "labels.parquet").read_bytes())
    assert found[0] == found[1]


# what only tables hold


def test_values_that_json_has_no_word_for(tmp_path: Path) -> None:
    """Catches a run that stops at a timestamp, a NaN that breaks the record, an integer that does not fit."""
    columns = {
        "when": pa.array([0], pa.timestamp("ns", "UTC")),
        "cost": pa.array([Decimal("1.50")]),
        "raw": pa.array([b"\xff\x00"]),
        "x": pa.array([float("nan")]),
        "half": pa.array([0.5], pa.float16()),
        "big": pa.array([2**64 - 1], pa.uint64()),
        "small": pa.array([7], pa.uint64()),
        "kind": pa.array(["web"]).dictionary_encode(),
        "deep": pa.array([{"x": float("inf"), "day": [b"\x01"]}]),
        "none": pa.nulls(1),
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
    }
    texts = {name: pa.array([text]) for name, text in row(id="1").items()}
    path = tmp_path / "x.parquet"
    pa.parquet.write_table(pa.table(texts | columns), path)
    [pair] = items(path)
    assert pair.extra == {
        "when": "1970-01-01 00:00:00.000000000Z", "cost": "1.50", "raw": "/wA=", "x": None, "half": 0.5,
        "big": 2**64 - 1, "small": 7, "kind": "web", "deep": {"x": None, "day": ["AQ=="]}, "none": None,
        "map": [["k", 1]],
    }  # fmt: skip
    kinds = info_of(path).columns
    assert [kinds[name] for name in columns] == [
        "string", "string", "string", "string", "float", "json", "int", "string", "json", "string", "json"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_text_that_is_not_utf8_is_a_bad_row(tmp_path: Path, name: str) -> None:
    """Catches bytes passed off as text by whoever wrote the table, in one row of many."""
    texts = pa.array([b"good", b"b\xffd", b"good"]).view(pa.string())
    whole = pa.table({"prompt": texts, "response_a": ["x"] * 3, "response_b": ["y"] * 3})
    if name == "x.parquet":
        pa.parquet.write_table(whole, tmp_path / name)
    else:
        with pa.OSFile(str(tmp_path / name), "wb") as sink, pa.ipc.new_stream(sink, whole.schema) as writer:
            writer.write_table(whole)
    first, bad, last = items(tmp_path / name)
    assert bad == Rejected(2, "invalid UTF-8: byte 0xff")
    assert [type(one) for one in (first, last)] == [Pair, Pair]


def test_a_column_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Catches a whole file called damaged for one column that nobody asked for."""
    column = pa.array([0], pa.timestamp("s", "Mars/Olympus"))
    whole = pa.table({name: pa.array([text]) for name, text in row(id="1").items()} | {"odd": column})
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    with pytest.raises(InputError, match=r"column odd cannot be read .*drop it"):
        items(tmp_path / "x.arrow")


def test_a_row_too_long_for_a_line_is_too_long_in_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "MAX_LINE_BYTES", 500)
    path = write(tmp_path, "x.parquet", [row(id="1"), row(id="2", response_a="x" * 600), row(id="3")])
    assert [getattr(item, "reason", None) for item in items(path)] == [None, "line too long: over 16 MB", None]


# files that are at fault


def cut(path: Path, drop: int) -> Path:
    path.write_bytes(path.read_bytes()[:-drop])
    return path


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("x.jsonl", "x.csv", "x")])
def test_a_file_that_breaks_off(tmp_path: Path, name: str) -> None:
    """Catches rows that are missing in silence: every cut of a compressed or binary file is found by the first look."""
    whole = write(tmp_path, name, [row(id=n, note="n" * n) for n in range(200)]).read_bytes()
    for size in (9, len(whole) // 3, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(InputError) as error:
            info_of(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)


def test_a_last_line_that_breaks_off(tmp_path: Path) -> None:
    """Catches half a row labelled or dropped in silence; a line feed says that the rest is wanted."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(json_lines([row(id="1"), row(id="2")])[:-9])
    with pytest.raises(InputError, match=r"in.jsonl, line 2: the last line breaks off \(broken JSON: .*line feed"):
        info_of(path)
    path.write_bytes(path.read_bytes() + b"\n")
    assert [type(item) for item in items(path)] == [Pair, Rejected]


@pytest.mark.parametrize("name", ["x.parquet", "x.feather", "x.arrow", "x.jsonl.gz"])
def test_flipped_bytes(tmp_path: Path, name: str) -> None:
    """Catches a traceback or a crash of the process by a damaged file: rows, or one line that names the file."""
    whole = write(tmp_path, name, [row(id=n, note="n" * n) for n in range(50)]).read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 60)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        (tmp_path / name).write_bytes(damaged)
        error = None
        try:
            info_of(tmp_path / name)
            items(tmp_path / name)
        except InputError as problem:
            error = str(problem)
        assert error is None or (name in error and "\n" not in error)


BAD_FILES = [
    ("x.csv", b"id,prompt,response_a,response_b\n1,p,a\n2,p,a,b\n", None),
    ("x.csv", b'prompt,response_a,response_b\np,a,"b\n', "x.csv, after row 0: unexpected end of data"),
    ("x.csv", b'prompt,response_a,response_b\np,a,b\np,"a"x,b\n', "after row 1: .* quote is not closed"),
    ("x.csv", b"\xff\xfep\0", "is UTF-16; save it as UTF-8"),
    ("x.jsonl", '{"prompt": "p"}\n'.encode("utf-16"), "x.jsonl is UTF-16; save it as UTF-8"),
    ("x.json", b"\xfe\xff\0[\0]", "x.json is UTF-16; save it as UTF-8"),
    ("x.jsonl.gz", gzip.compress('{"prompt": "p"}\n'.encode("utf-16"), mtime=0), "gz is UTF-16; save it as UTF-8"),
    ("x.csv", b"pr\xffmpt,response_a,response_b\np,a,b\n", "the header is not UTF-8"),
    ("x.csv", b"prompt,response_a,prompt\np,a,b\n", "two columns named prompt"),
    ("x.csv", b"", "holds no rows"),
    ("x.csv", b"prompt,response_a,response_b\n", "holds no rows"),
    ("x.parquet", b"PAR1PAR1", "damaged, cut off or no Parquet"),
    ("x.parquet", b"hello", "is no Parquet, whatever its name says"),
    ("x.arrow", b"ARROW1\0\0", "damaged, cut off or no Arrow"),
    ("x.jsonl.xz", b"\xfd7zXZ\0", "is compressed with xz"),
    ("x.parquet.gz", gzip.compress(b"PAR1", mtime=0), "is Parquet compressed with gzip; unpack it"),
    ("x.parquet", b"", "is no Parquet, whatever its name says"),
    ("x.csv", b"id;prompt;response_a\n1;p;a\n", "separates its columns by ';'; save it with commas"),
    ("x.csv", b"id\tprompt\n1\tp\n", "separates its columns by tabs; save it with commas, or with tabs as .tsv"),
    ("x.pkl", b"\x80\x04\x95", "is a pickle, which is never read; save the rows as Parquet"),
    ("x.txt", b"prompt,response_a,response_b\n", "is neither JSON nor Parquet nor Arrow; if it is CSV, name it .csv"),
    ("x.zip", b"PK\x03\x04", "is a zip archive"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_files(tmp_path: Path, name: str, content: bytes, message: str | None) -> None:
    """Catches tracebacks, and files read as what they are not."""
    (tmp_path / name).write_bytes(content)
    if message is None:
        bad, good = items(tmp_path / name)
        assert bad == Rejected(1, "wrong number of columns: found 3, the header has 4")
        assert isinstance(good, Pair)
        return
    with pytest.raises(InputError, match=message) as error:
        info_of(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("indent", [None, 1])
def test_one_array_is_read(tmp_path: Path, indent: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches the commonest other JSON rejected line by line, rows without the checks of lines, memory without end."""
    rows: list[Any] = [row(id=None), row(id="2", note="\ud800"), 7, row(id="4", note={"deep": [1, {}]})]
    path = tmp_path / "x.json"
    path.write_text(f"\ufeff {json.dumps(rows, indent=indent)}\n")
    first, *bad, last = items(path)
    assert [item.reason for item in bad] == ["lone surrogate: U+D800 is half of a character", "not an object: a number"]
    assert (first.id, last.id, last.extra) == ("line-1", "4", {"note": {"deep": [1, {}]}})
    path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
    assert items(path.with_suffix(".gz")) == [first, *bad, last]
    monkeypatch.setattr(jsonl, "MAX_ARRAY_BYTES", 100)
    with pytest.raises(InputError, match=r"x.json is one JSON array of over 0 MB; put each object on a line"):
        items(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{}, {}", "Expecting ',' delimiter at column 8"),
        ("[{} {}]", "Expecting ',' delimiter at column 5"),
        ("[{}]\n[{}]", "Extra data at line 2, column 1"),
        ('[{}, {"a": 1, "a": 2}]', 'duplicate key: "a"'),
        ("[{}, {", "broken JSON: Expecting property name"),
    ],
)
def test_a_broken_array(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=rf"x.json is neither one JSON array nor an object on each line: .*{message}"):
        items(tmp_path / "x.json")


def test_csv_in_windows_clothes(tmp_path: Path) -> None:
    """Catches a byte order mark in the first column's name, carriage returns in the last, bytes of another encoding."""
    path = tmp_path / "x.CSV"
    path.write_bytes('\ufeffprompt,response_a,response_b\r\np,"a\r\nb",c\r\n\r\n'.encode() + b"p,caf\xe9,x\r\n")
    pair, bad = items(path)
    assert (pair.prompt[0].content, pair.response_a, pair.response_b) == ("p", "a\r\nb", "c")
    assert bad == Rejected(2, "invalid UTF-8: byte 0xe9")


def test_tabs_and_compression(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", [row(id="1", note="tab\there")])
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress((tmp_path / "x.csv").read_bytes()))
    (tmp_path / "x.tsv").write_bytes(b"prompt\tresponse_a\tresponse_b\np\ta, b\tc\n")
    assert items(tmp_path / "x.csv.gz") == items(tmp_path / "x.csv")
    assert items(tmp_path / "x.tsv")[0].response_a == "a, b"


def test_a_bomb_is_skipped_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches memory that a small compressed file can claim: a line is held up to its limit, packed or not."""
    for module in (jsonl, csv):
        monkeypatch.setattr(module, "MAX_LINE_BYTES", 1000)
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(json_lines([row(id="1")]) + b"[" * 10_000_000 + b"\n" + json_lines([row(id="3")])))
    assert [item.line for item in items(path) if isinstance(item, Rejected)] == [2]
    text = tmp_path / "x.csv"
    text.write_bytes(b"prompt,response_a,response_b\np," + b"x" * 2000 + b",b\n")
    with pytest.raises(InputError, match="line 2: line too long"):
        info_of(text)


# datasets saved to disk


def test_splits_are_named(tmp_path: Path) -> None:
    """Catches one split labelled in place of another."""
    for split in ("train", "test"):
        write_saved(tmp_path / split, [row(id=split), row(id="2")])
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    with pytest.raises(InputError, match=r"several splits; name one of them: .*train, .*test"):
        info_of(tmp_path)
    assert items(tmp_path / "test")[0].id == "test"
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["test"]}))
    assert items(tmp_path)[0].id == "test"
    assert sha256_of(tmp_path) != sha256_of(tmp_path / "train")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (b"{", "does not say what lies beside it"),
        (b"[]", "does not say what lies beside it"),
        (b"{}", "does not say what lies beside it"),
        (b'{"_data_files": [{"filename": "../x.arrow"}]}', "does not say what lies beside it"),
        (b'{"_data_files": [{"filename": "gone.arrow"}]}', "no such file: .*gone.arrow"),
        (b'{"_data_files": [], "_indices_files": [{}]}', "flatten_indices"),
    ],
)
def test_bad_datasets(tmp_path: Path, state: bytes, message: str) -> None:
    """Catches a path that leaves the directory, and rows in an order that the data files do not have."""
    write_saved(tmp_path / "d", [row(id="1"), row(id="2")])
    (tmp_path / "d" / "state.json").write_bytes(state)
    with pytest.raises(InputError, match=message):
        info_of(tmp_path / "d")


def test_a_table_has_unique_names(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["x"])] * 2, names=["prompt", "prompt"])
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pa.ipc.new_stream(sink, twice.schema) as writer:
        writer.write_table(twice)
    with pytest.raises(InputError, match="two columns named prompt"):
        info_of(tmp_path / "x.arrow")


def test_long_rows_are_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a batch of a thousand rows however long they are, and rows lost where batches are small."""
    monkeypatch.setattr(arrow, "BATCH_BYTES", 1000)
    assert [arrow.batch_rows(10, size) for size in (0, 100, 1000, 5000, 10**9)] == [1024, 100, 10, 2, 1]
    for name in ("x.parquet", "x.feather"):
        path = write(tmp_path, name, [row(id=n, note="n" * 400) for n in range(20)])
        assert [item.line for item in read(path)] == list(range(1, 21))
