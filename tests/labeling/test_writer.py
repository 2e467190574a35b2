"""The writer: the exact table, all or nothing, and nothing of anybody else's."""

from __future__ import annotations

import errno
import gc
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling.data import labels_file as writer
from preftree.labeling.data.dataset import DatasetInfo
from preftree.labeling.data.labels_file import LabelWriter
from preftree.labeling.types import ArrowType, Pair, PairLabel, Rejected
from tests.labeling.fakes import row, write_rows
from tests.labeling.opened import info_of, read

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

LABEL = PairLabel(0.75, 0.875, 0.625, 0.9, 0.8, 321)


def survey_of(tmp_path: Path, rows: list[Any]) -> DatasetInfo:
    return info_of(write_rows(tmp_path / "in.jsonl", rows))


def write(out: Path, found: DatasetInfo) -> Any:  # a pyarrow.Table
    out.mkdir(exist_ok=True)
    with LabelWriter(out, found, PairLabel.COLUMNS) as labels:
        labels.add([(item, LABEL if isinstance(item, Pair) else None) for item in read(found.name)])
        labels.publish()
    return parquet.read_table(out / "labels.parquet")


def test_schema_and_values(tmp_path: Path) -> None:
    """Catches a column renamed, moved or retyped, a rejected row with numbers in it, rows out of order."""
    rows = [row(id="one", gold="a", source="web"), row(id="two", response_a=""), b"bad"]
    table = write(tmp_path / "out", survey_of(tmp_path, rows))
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("id", "string"),
        ("p_a", "double"),
        ("verdict", "string"),
        ("p_a_first", "double"),
        ("p_a_second", "double"),
        ("position_gap", "double"),
        ("consistent", "bool"),
        ("label_mass_first", "double"),
        ("label_mass_second", "double"),
        ("status", "string"),
        ("reason", "string"),
        ("prompt_tokens", "int64"),
        ("response_chars", "list<element: int64>"),
        ("gold", "string"),
        ("source", "string"),
    ]
    one, two, bad = (list(values.values()) for values in table.to_pylist())
    assert one == ["one", 0.75, "a", 0.875, 0.625, 0.25, True, 0.9, 0.8, "ok", None, 321, [4, 4], "a", "web"]
    nothing = [None, None, None, None, None, None, None, None, "rejected"]
    assert two == ["two", *nothing, "line 2: blank text: response_a", None, None, None, None]
    assert bad[:10] == [None, *nothing]
    assert bad[10].startswith("line 3: broken JSON: ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labels.parquet"]


def test_passed_through_columns(tmp_path: Path) -> None:
    """Catches a mixed column that stops the run, a lossy integer, a column that shadows one of the labels'."""
    rows = [
        row(id="1", n=1, x=1, big=2**63, mix="a", nested={"k": [1, None, "é"]}, status="mine", input_status="too"),
        row(id="2", n=2, x=0.5, big=None, mix=1, flag=True, status=None, reason=5, **{"": "unnamed"}),
    ]
    table = write(tmp_path / "out", survey_of(tmp_path, rows))
    names = table.column_names[13:]
    assert names == [
        "n", "x", "big", "mix", "nested", "input_input_status", "input_status", "flag", "input_reason", ""
    ]  # fmt: skip
    first, second = (list(values.values())[13:] for values in table.to_pylist())
    nested = '{"k": [1, null, "é"]}'
    assert first == [1, 1.0, str(2**63), '"a"', nested, "mine", "too", None, None, None]
    assert second == [2, 0.5, None, "1", None, None, None, True, 5, "unnamed"]
    assert [str(table.schema.field(name).type) for name in ("n", "x", "flag")] == ["int64", "double", "bool"]


def test_no_gold_column_without_gold(tmp_path: Path) -> None:
    """Catches a gold column of nulls where the input has none."""
    assert len(write(tmp_path / "out", survey_of(tmp_path, [row()])).column_names) == 13


def test_hostile_text_survives(tmp_path: Path) -> None:
    """Catches text that is cut at NUL or changed by a round trip through Arrow."""
    text = "\x00\x1b[0m{{ x }}\u202e\U0001f600"
    table = write(tmp_path / "out", survey_of(tmp_path, [row(id=text, note=text, **{text: 1})]))
    [values] = table.to_pylist()
    assert (values["id"], values["note"], values[text]) == (text, text, 1)


def test_row_groups_do_not_change_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches rows lost or repeated where one row group ends, by number of rows or by size."""
    found = survey_of(tmp_path, [row(id=i, note="x" * 100) for i in range(25)])
    whole = write(tmp_path / "whole", found)
    monkeypatch.setattr(writer, "_GROUP_ROWS", 10)
    assert write(tmp_path / "rows", found) == whole
    monkeypatch.setattr(writer, "_GROUP_BYTES", 350)
    assert write(tmp_path / "chars", found) == whole
    assert parquet.ParquetFile(tmp_path / "rows" / "labels.parquet").num_row_groups == 3
    assert parquet.ParquetFile(tmp_path / "chars" / "labels.parquet").num_row_groups > 5


@pytest.mark.parametrize("limit", ["_GROUP_ROWS", "_GROUP_BYTES"])
def test_bytes_do_not_depend_on_how_rows_came(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """Catches a row group or a page that ends where a window did, among them texts that lie in lists and objects."""
    monkeypatch.setattr(writer, limit, {"_GROUP_ROWS": 7, "_GROUP_BYTES": 100}[limit])
    parts: ArrowType = [{"name": "string", "size": "int64"}]
    columns: dict[str, ArrowType] = {"verdict": "string", "words": ["string"], "parts": parts}
    found = survey_of(tmp_path, [row(id=i, note="é" * (i % 5) if i % 3 else None) for i in range(40)])
    rows = [(item, Worded(item.line)) for item in read(found.name)]
    written = []
    for step in (1, 2, 11, 40):
        out = tmp_path / f"by {step}"
        out.mkdir()
        with LabelWriter(out, found, columns) as labels:
            for start in range(0, len(rows), step):
                labels.add(rows[start : start + step])
            labels.publish()
        written.append((out / "labels.parquet").read_bytes())
    assert parquet.ParquetFile(out / "labels.parquet").num_row_groups >= 5
    assert len(set(written)) == 1


@dataclass(frozen=True)
class Worded:
    """A label with texts in lists and objects, some of them null or empty."""

    number: int
    prompt_tokens: int = 3

    def values(self) -> dict[str, Any]:
        words = [None, [], ["x" * self.number, None, "é"]][self.number % 3]
        parts = [{"name": "n" * (self.number % 7), "size": 1}] * (self.number % 2)
        return {"verdict": "tie", "words": words, "parts": parts or None}


def test_same_labels_same_bytes(tmp_path: Path) -> None:
    """Catches times or names of the run inside the labels."""
    found = survey_of(tmp_path, [row()])
    write(tmp_path / "one", found)
    write(tmp_path / "two", found)
    one, two = ((tmp_path / name / "labels.parquet").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_failed_run_leaves_nothing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Catches half a file under the final name, and a temporary one left over."""
    found = survey_of(tmp_path, [row()])
    labels = LabelWriter(tmp_path, found, PairLabel.COLUMNS)
    with suppress(KeyboardInterrupt), labels:
        labels.add([(Rejected(1, "x"), None)])
        labels._flush()
        raise KeyboardInterrupt
    del labels
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    assert not recwarn.list


def test_a_failed_run_keeps_what_it_was_to_replace(tmp_path: Path) -> None:
    """Catches old labels that are gone before the new ones are whole."""
    found = survey_of(tmp_path, [row()])
    before = write(tmp_path / "out", found)
    with pytest.raises(RuntimeError), LabelWriter(tmp_path / "out", found, PairLabel.COLUMNS):
        raise RuntimeError
    assert parquet.read_table(tmp_path / "out" / "labels.parquet") == before
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize("when", ["write", "fsync"])
def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Catches a traceback out of pyarrow, and a file that is named before it is on disk."""
    found = survey_of(tmp_path, [row()])
    out = tmp_path / "out"
    out.mkdir()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with LabelWriter(out, found, PairLabel.COLUMNS) as labels:
        labels.add([(Pair("x", (), "a", "b"), LABEL)])
        if when == "write":
            full_file = type("Full", (), {"write": full, "tell": lambda _: 0})()
            monkeypatch.setattr(labels._sink, "_file", full_file)
        else:
            monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"cannot write to .*out: No space left on device"):
            labels.publish()
    del labels
    gc.collect()
    assert list(out.iterdir()) == []
