"""Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from preftree.labeling.data.digest import file_sha256
from preftree.labeling.data.table import Table, batch_rows


def parquet(path: Path) -> Table:
    return Table(path, "Parquet", partial(_batches, path), partial(file_sha256, path))


@contextmanager
def _batches(path: Path) -> Iterator[tuple[Any, Iterator[Any]]]:
    """Row groups are read piece by piece: one may be as large as the file."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path, buffer_size=1 << 20, page_checksum_verification=True) as file:
        groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        yield file.schema_arrow, file.iter_batches(batch_rows(file.metadata.num_rows, size))
