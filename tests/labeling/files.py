"""The same rows in every format that is read."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import feather, parquet

Rows = Sequence[dict[str, Any]]


def json_lines(rows: Rows) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def write_jsonl(path: Path, rows: Rows) -> None:
    path.write_bytes(json_lines(rows))


def write_gzip(path: Path, rows: Rows) -> None:
    path.write_bytes(gzip.compress(json_lines(rows)))


def write_zstd(path: Path, rows: Rows) -> None:
    path.write_bytes(pa.Codec("zstd").compress(json_lines(rows), asbytes=True))


def write_csv(path: Path, rows: Rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
        writer.writeheader()
        writer.writerows(rows)


def table(rows: Rows) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def write_parquet(path: Path, rows: Rows) -> None:
    parquet.write_table(table(rows), path, row_group_size=7)


def write_arrow_file(path: Path, rows: Rows) -> None:
    feather.write_feather(table(rows), path, chunksize=5)


def write_arrow_stream(path: Path, rows: Rows) -> None:
    whole = table(rows)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole, max_chunksize=5)


def write_saved(path: Path, rows: Rows) -> None:
    """As `datasets` does, in two files."""
    path.mkdir()
    names = [f"data-0000{index}-of-00002.arrow" for index in range(2)]
    half = len(rows) // 2
    whole = table(rows)
    for name, part in zip(names, (whole.slice(0, half), whole.slice(half)), strict=True):
        with pa.OSFile(str(path / name), "wb") as sink, pa.ipc.new_stream(sink, whole.schema) as writer:
            writer.write_table(part)
    (path / "dataset_info.json").write_text("{}")
    (path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))


WRITERS: dict[str, Callable[[Path, Rows], None]] = {
    "x.jsonl": write_jsonl,
    "x.jsonl.gz": write_gzip,
    "x.jsonl.zst": write_zstd,
    "x.csv": write_csv,
    "x.parquet": write_parquet,
    "x.feather": write_arrow_file,
    "x.arrow": write_arrow_stream,
    "x": write_saved,
}
