"""Ids that several rows have: found in eight bytes a row, and compared exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from preftree.labeling.types import Rejected
from tests.labeling.fakes import row, write_rows
from tests.labeling.opened import info_of, read

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def test_hashes_of_repeated_ids(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "in.jsonl", [row(id=name) for name in ("one", "two", "one", "three", "two", "one")])
    assert info_of(path).repeated == {hash("one"), hash("two")}
    assert info_of(write_rows(path, [row(id="one")])).repeated == frozenset()


def test_a_shared_hash_is_no_repetition(tmp_path: Path) -> None:
    """Catches a good row that is rejected because another id has its hash."""
    path = write_rows(tmp_path / "in.jsonl", [row(id=name) for name in ("one", "three", "three", "one", "two")])
    found = read(path, repeated=frozenset({hash("one"), hash("two")}))
    assert [isinstance(item, Rejected) for item in found] == [False, False, False, True, False]


@pytest.mark.parametrize("ids", [["a", "b", "a"], [1, 2, 1], ["line-3", "x", None], [None, None, "line-1"]])
@pytest.mark.parametrize("mapped", ["id", "key", "of.key", "missing"])
def test_every_format_finds_them(tmp_path: Path, ids: list[Any], mapped: str) -> None:
    """Catches a table of which the wrong column is compared, and ids that were made of line numbers left out."""
    rows: list[dict[str, Any]] = []
    for value in ids:
        where = {"id": {"id": value}, "key": {"key": value}, "of.key": {"of": {"key": value}}, "missing": {}}[mapped]
        rows.append({**{k: v for k, v in row().items() if k != "id"}, **where})
    mapping = [] if mapped in ("id", "missing") else [f"id={mapped}"]
    table = tmp_path / "in.parquet"
    parquet.write_table(pa.Table.from_pylist(rows), table)
    for path in (write_rows(tmp_path / "in.jsonl", rows), table):
        found = info_of(path, mapping)
        assert found.rows == 3
        bad = [item.line for item in read(path, None, mapping, found.repeated) if isinstance(item, Rejected)]
        assert bad == ([] if mapped == "missing" else [3])
