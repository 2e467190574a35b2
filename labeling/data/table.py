"""A table of Arrow columns as rows of JSON values, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.data.column import column_kind, column_values
from preftree.labeling.data.columns import Kind, check_names
from preftree.labeling.data.lines import MAX_LINE_BYTES, TOO_LONG
from preftree.labeling.data.row import BadRow, rivals
from preftree.labeling.data.source import NumberedRow
from preftree.labeling.terminal import one_line

# What is Python objects at a time, whichever is less.
BATCH_ROWS = 1024
BATCH_BYTES = 32 * 1024 * 1024

OpenBatches = Callable[[], AbstractContextManager[tuple[Any, Iterator[Any]]]]


@dataclass(frozen=True)
class Table:
    """See `preftree.labeling.data.source.Source`. Rows are numbered from 1.

    open_batches: a context with (schema, record batches). digest: sha256 of the bytes on disk.
    """

    path: Path
    format: str
    open_batches: OpenBatches
    digest: Callable[[], str]

    def rows(self, columns: Collection[str] | None = None) -> Generator[NumberedRow]:
        """A null is left out where only some rows can have a value: of a table with samples of several kinds."""
        number = 0
        with self._reading() as (schema, batches):
            left_out = rivals(schema.names)
            for batch in batches if columns is None else (batch.select(list(columns)) for batch in batches):
                step = batch_rows(batch.num_rows, batch.nbytes)
                for start in range(0, batch.num_rows, step):
                    for row in _rows(self.path, batch.slice(start, step)):
                        number += 1
                        if left_out and isinstance(row, dict):
                            yield number, {k: v for k, v in row.items() if v is not None or k not in left_out}
                        else:
                            yield number, row

    def kinds(self) -> Mapping[str, Kind]:
        """Values tell whether unsigned integers are large."""
        with self._reading() as (schema, batches):
            kinds = {field.name: column_kind(self.path, field) for field in schema}
            unsigned = [field.name for field in schema if str(field.type) == "uint64"]
            for batch in batches:
                kinds |= {name: "json" for name in unsigned if _exceeds_int64(batch.column(name))}
        return kinds

    def sha256(self) -> str:
        return self.digest()

    @contextmanager
    def _reading(self) -> Iterator[tuple[Any, Iterator[Any]]]:
        import pyarrow as pa

        try:
            with self.open_batches() as (schema, batches):
                check_names(self.path, schema.names)
                yield schema, batches
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise InputError(f"cannot read {self.path}: {error.strerror}") from error
            detail = one_line(str(error)).rstrip(".")
            raise InputError(
                f"{self.path} is damaged, cut off or no {self.format} ({detail}); get it whole again"
            ) from error


def batch_rows(rows: int, size: int) -> int:
    """How many rows to take at a time, where so many have `size` bytes together."""
    return max(1, min(BATCH_ROWS, rows * BATCH_BYTES // max(size, 1)))


def _rows(path: Path, batch: Any) -> Iterator[dict[str, Any] | BadRow]:
    names = batch.schema.names
    if not names:
        yield from ({} for _ in range(batch.num_rows))
    columns = [column_values(path, name, column) for name, column in zip(names, batch.columns, strict=True)]
    broken = any(column.has_bad for column in columns)
    long = batch.nbytes > MAX_LINE_BYTES
    for index, values in enumerate(zip(*(column.values for column in columns), strict=True)):
        if long and batch.slice(index, 1).nbytes > MAX_LINE_BYTES:
            yield BadRow(TOO_LONG)
        elif broken and (bad := next((value for value in values if isinstance(value, BadRow)), None)):
            yield bad
        else:
            yield dict(zip(names, values, strict=True))


def _exceeds_int64(column: Any) -> bool:
    from pyarrow import compute

    largest = compute.max(column).as_py()
    return largest is not None and largest >= 2**63
