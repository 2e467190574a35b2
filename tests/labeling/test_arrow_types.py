"""Columns of types that are no JSON: never looked at, named where they are needed; files of other projects' suites."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

pa = pytest.importorskip("pyarrow")

from preftree.engine.errors import InputError, PreftreeError  # noqa: E402
from preftree.labeling.data import arrow  # noqa: E402
from preftree.labeling.data.arrow_types import is_read  # noqa: E402
from preftree.labeling.data.dataset import Dataset  # noqa: E402
from preftree.labeling.data.formats import open_source  # noqa: E402
from preftree.labeling.data.objects import source_of  # noqa: E402
from preftree.labeling.data.source import File  # noqa: E402
from tests.labeling.child import in_child  # noqa: E402
from tests.labeling.fakes import row  # noqa: E402
from tests.labeling.opened import info_of, read  # noqa: E402

SUITES = "PREFTREE_FOREIGN_FILES"
UNION = pa.sparse_union([pa.field("i", pa.int32()), pa.field("s", pa.string())])
MONTHS = pa.month_day_nano_interval()


def column(kind: Any, rows: int) -> Any:
    """Of a type that Python cannot fill itself."""
    if pa.types.is_union(kind):
        texts = pa.array(["x"] * rows, pa.string())
        tags = pa.array([1] * rows, pa.int8())
        return pa.UnionArray.from_sparse(tags, [pa.nulls(rows, pa.int32()), texts], ["i", "s"])
    if pa.types.is_struct(kind):
        return pa.StructArray.from_arrays([column(UNION, rows)], ["inner"])
    return pa.nulls(rows, kind)


def write_stream(path: Path, whole: Any) -> Path:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    return path


def table(rows: int, **odd: Any) -> Any:
    texts = row(id="1")
    return pa.table({name: pa.array([text] * rows) for name, text in texts.items() if name != "id"} | odd)


@pytest.mark.parametrize("kind", [UNION, MONTHS, pa.struct([("inner", UNION)])], ids=str)
@pytest.mark.parametrize("form", ["stream", "file", "memory"])
def test_an_odd_column_is_left_out(tmp_path: Path, kind: Any, form: str, caplog: pytest.LogCaptureFixture) -> None:
    """Catches a file that is of no use because of a column that nobody asked for, and one dropped in silence."""
    whole = table(3, odd=column(kind, 3), note=pa.array(["n"] * 3))
    path = write_stream(tmp_path / "x.arrow", whole)
    if form == "file":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, whole.schema) as writer:
            writer.write_table(whole)
    dataset = Dataset(source_of(whole)) if form == "memory" else Dataset.open(path)
    assert dataset.info.columns == {"note": "string"}
    assert [item.extra for item in dataset.read()] == [{"note": "n"}] * 3
    [message] = caplog.messages
    shown = str(kind) if len(str(kind)) <= 60 else str(kind)[:60]
    assert f"column odd is left out: its type, {shown}" in message


@pytest.mark.parametrize("mapping", [(), ("response_b=odd",)])
def test_an_odd_column_that_is_needed_is_named(tmp_path: Path, mapping: tuple[str, ...]) -> None:
    """Catches "no columns that are known" said of a column that is there, or rows rejected one by one for it."""
    name = "odd" if mapping else "response_b"
    whole = table(2).drop(["response_b"]).append_column(name, column(UNION, 2))
    path = write_stream(tmp_path / "x.arrow", whole)
    with pytest.raises(InputError, match=rf"x.arrow: column {name} has the type sparse_union<.*>, .* save it as text$"):
        info_of(path, mapping)
    path = write_stream(tmp_path / "y.arrow", pa.table({"u": column(UNION, 2)}))
    with pytest.raises(InputError, match=r"y.arrow has no column of a type that is read: u is sparse_union"):
        info_of(path)


def test_an_empty_batch_of_a_union_does_not_end_the_process(tmp_path: Path) -> None:
    """Catches pyarrow's segmentation fault when it validates a sparse union without rows: a valid file."""
    whole = table(2, odd=column(UNION, 2))
    empty, full = whole.slice(0, 0).combine_chunks().to_batches(), whole.to_batches()
    first = empty[0] if empty else pa.RecordBatch.from_arrays([one.slice(0, 0) for one in full[0]], schema=whole.schema)
    path = tmp_path / "x.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, whole.schema) as writer:
        for batch in (first, *full):
            writer.write_batch(batch)
    assert in_child(lambda: f"{len(list(read(path)))} rows") == "2 rows"


def test_types_inside_of_others(tmp_path: Path) -> None:
    """Catches a type that is told by its outermost part, and one that is read today left out."""
    good = (
        *(pa.null(), pa.bool_(), pa.int8(), pa.uint64(), pa.float16(), pa.decimal128(5, 2), pa.decimal256(50, 2)),
        *(pa.date32(), pa.date64(), pa.time32("s"), pa.time64("ns"), pa.timestamp("us", "UTC"), pa.duration("s")),
        *(pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.binary(3), pa.large_binary()),
    )
    for kind in good:
        nested = (pa.list_(kind), pa.large_list(kind), pa.list_(kind, 2), pa.map_(pa.string(), kind))
        assert all(map(is_read, (kind, *nested, pa.struct([("x", pa.list_(kind))])))), kind
    assert is_read(pa.dictionary(pa.int8(), pa.string()))
    assert is_read(pa.run_end_encoded(pa.int32(), pa.string()))
    dense = pa.dense_union([pa.field("i", pa.int32())])
    for kind in (UNION, dense, MONTHS):
        nested = (pa.list_(kind), pa.list_view(kind), pa.map_(pa.string(), kind), pa.map_(kind, pa.string()))
        assert not any(map(is_read, (kind, *nested, pa.struct([("good", pa.int8()), ("x", kind)])))), kind


@pytest.mark.parametrize("error", [MemoryError("realloc failed"), pa.ArrowMemoryError("realloc failed")])
def test_no_memory_is_not_damage(tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a whole file called damaged because the machine is too small for it."""
    path = write_stream(tmp_path / "x.arrow", table(2))

    def fails(_: Any) -> None:
        raise error

    monkeypatch.setattr(arrow, "checked", fails)
    with pytest.raises(InputError, match=r"not enough memory to read .*x.arrow; free some") as raised:
        info_of(path)
    assert "damaged" not in str(raised.value)


def test_offsets_are_checked_in_memory_too() -> None:
    """Catches a table whose offsets point out of its text read by whoever is given it."""
    offsets = pa.array([0, 1 << 30, 1], pa.int32()).buffers()[1]
    texts = pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"x"))
    said = in_child(lambda: f"read {Dataset(source_of(table(2, note=texts))).info.rows}")
    assert said.startswith("raised InputError: rows is damaged"), said


def outcome(path: Path) -> str:
    """What becomes of a file: its rows are read, or it is refused in one line."""
    try:
        rows = sum(1 for _ in open_source(File(path, path.name)).rows())
    except PreftreeError as error:
        return f"refused {error}" if "\n" not in str(error) else f"more than one line: {error}"
    return f"read {rows}"


FOREIGN = pytest.mark.skipif(SUITES not in os.environ, reason=f"{SUITES} names no folder of files")


def foreign_files() -> list[Path]:
    found = sorted(path for path in Path(os.environ[SUITES]).rglob("*") if path.is_file())
    assert found
    return found


@pytest.mark.soak
@FOREIGN
def test_files_of_other_suites() -> None:
    """Catches a crash, a traceback or a hang by any file of apache/arrow-testing and apache/parquet-testing."""
    said = {str(path): in_child(lambda path=path: outcome(path)) for path in foreign_files()}  # type: ignore[misc]
    wrong = {path: text for path, text in said.items() if not text.startswith(("read ", "refused "))}
    assert not wrong, json.dumps(wrong, indent=1)
    assert any(text.startswith("read ") for text in said.values())


@pytest.mark.soak
@FOREIGN
@pytest.mark.parametrize("seed", range(5))
def test_harmed_files_of_other_suites(tmp_path: Path, seed: int) -> None:
    """Catches the same by a few bytes that are not what they were, in types and layouts that nobody here writes."""
    rng = random.Random(seed)
    files = [path for path in foreign_files() if 8 < path.stat().st_size < 200_000]
    path = tmp_path / "harmed"
    for original in rng.choices(files, k=300):
        raw = bytearray(original.read_bytes())
        for _ in range(rng.choice((1, 1, 2, 8))):
            raw[rng.randrange(len(raw))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        path.write_bytes(raw)
        said = in_child(lambda: outcome(path))
        assert said.startswith(("read ", "refused ")), f"{original}, harmed: {said}"
