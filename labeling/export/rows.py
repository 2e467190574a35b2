"""Rows of a format into a file, as JSON lines or Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, BinaryIO

from preftree.labeling.data.labels_file import arrow_type
from preftree.labeling.export.comparison import Comparison
from preftree.labeling.export.formats import Format

# What is in memory at a time: rows hold whole conversations.
_GROUP_ROWS = 1024


def write_rows(file: BinaryIO, ending: str, form: Format, comparisons: Iterable[Comparison]) -> None:
    """ending: ".jsonl" or ".parquet". Raises OSError."""
    rows = (row for one in comparisons for row in form.rows(one))
    if ending == ".parquet":
        _write_parquet(file, form, rows)
        return
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def _write_parquet(file: BinaryIO, form: Format, rows: Iterator[dict[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, arrow_type(spec)) for name, spec in form.columns.items()])
    with parquet.ParquetWriter(file, schema) as writer:
        while group := list(islice(rows, _GROUP_ROWS)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
