"""Ids that several rows have: found in constant memory, and compared exactly."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling.data import repeats
from preftree.labeling.data.dataset import read, survey
from preftree.labeling.data.repeats import FirstUses, Hashes
from preftree.labeling.types import Rejected
from tests.labeling.fakes import row, write_rows

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.mark.parametrize(("in_memory", "at_a_time"), [(1 << 20, 1 << 18), (512, 100)])
def test_repeated_hashes(monkeypatch: pytest.MonkeyPatch, in_memory: int, at_a_time: int) -> None:
    """Catches a repetition whose two places are in different pieces, in memory or on disk."""
    monkeypatch.setattr(repeats, "_IN_MEMORY", in_memory)
    monkeypatch.setattr(repeats, "_AT_A_TIME", at_a_time)
    ids = [f"row-{number}" for number in range(10_000)]
    twice = {"row-0", "row-17", "row-9999"}
    hashes = Hashes()
    for identity in random.Random(0).sample([*ids, *twice, "row-17"], len(ids) + 4):
        hashes.add(identity)
    assert hashes.repeated() == {hash(identity) for identity in twice}
    hashes.close()


def test_nothing_to_compare() -> None:
    hashes = Hashes()
    assert hashes.repeated() == frozenset()
    hashes.close()


def test_no_room_for_a_temporary_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "_PENDING", 1)
    hashes = Hashes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(hashes, "_file", SimpleNamespace(write=full))
    with pytest.raises(OutputError, match=r"cannot write a temporary file in .*: No space left on device; make room"):
        hashes.add("one")


def test_a_shared_hash_is_no_repetition() -> None:
    """Catches a good row that is rejected because another id has its hash."""
    uses = FirstUses({hash("one"), hash("two")})
    assert [uses.add(identity) for identity in ("one", "three", "three", "one")] == [True, True, True, False]


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
        found = survey(path, mapping)
        assert found.rows == 3
        bad = [item.line for item in read(path, None, mapping, found.repeated) if isinstance(item, Rejected)]
        assert bad == ([] if mapped == "missing" else [3])
