"""Arrow columns as rows of JSON values, a batch at a time.

What JSON has no word for becomes text: times and decimals as Arrow writes them, bytes as base64. NaN and infinities
become null, as they do in JSON lines.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.data.columns import check_names
from preftree.labeling.data.row import MAX_LINE_BYTES, TOO_LONG, BadRow, rivals
from preftree.labeling.data.source import Rows
from preftree.labeling.terminal import one_line

# What is Python objects at a time, whichever is less.
BATCH_ROWS = 1024
BATCH_BYTES = 32 * 1024 * 1024

OpenBatches = Callable[[], AbstractContextManager[tuple[Any, Iterator[Any]]]]


@dataclass(frozen=True)
class Table:
    """See `preftree.labeling.data.source.Source`. open_batches: a context with (schema, record batches)."""

    name: str
    format: str
    open_batches: OpenBatches

    def rows(self, last: int = 0) -> Rows:
        """A null is left out where only some rows can have a value: of a table with samples of several kinds."""
        number = last
        with self._reading() as (schema, batches):
            left_out = rivals(schema.names)
            for batch in batches:
                step = batch_rows(batch.num_rows, batch.nbytes)
                for start in range(0, batch.num_rows, step):
                    for row in _rows(self.name, batch.slice(start, step)):
                        number += 1
                        if left_out and isinstance(row, dict):
                            yield number, {k: v for k, v in row.items() if v is not None or k not in left_out}
                        else:
                            yield number, row
        return number

    @contextmanager
    def _reading(self) -> Iterator[tuple[Any, Iterator[Any]]]:
        import pyarrow as pa

        try:
            with self.open_batches() as (schema, batches):
                check_names(self.name, schema.names)
                yield schema, batches
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise InputError(f"cannot read {self.name}: {error.strerror}") from error
            detail = one_line(str(error)).rstrip(".")
            raise InputError(
                f"{self.name} is damaged, cut off or no {self.format} ({detail}); get it whole again"
            ) from error


def batch_rows(rows: int, size: int) -> int:
    """How many rows to take at a time, where so many have `size` bytes together."""
    return max(1, min(BATCH_ROWS, rows * BATCH_BYTES // max(size, 1)))


def _rows(name: str, batch: Any) -> Iterator[dict[str, Any] | BadRow]:
    names = batch.schema.names
    if not names:
        yield from ({} for _ in range(batch.num_rows))
    try:
        columns = [_column_values(name, title, column) for title, column in zip(names, batch.columns, strict=True)]
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            yield BadRow(f"invalid UTF-8: byte 0x{error.object[error.start]:02x}")
        else:
            for index in range(batch.num_rows):
                yield from _rows(name, batch.slice(index, 1))
        return
    long = batch.nbytes > MAX_LINE_BYTES
    for index, values in enumerate(zip(*columns, strict=True)):
        if long and batch.slice(index, 1).nbytes > MAX_LINE_BYTES:
            yield BadRow(TOO_LONG)
        else:
            yield dict(zip(names, values, strict=True))


def _column_values(name: str, title: str, column: Any) -> list[Any]:
    """Raises UnicodeDecodeError, and InputError where values cannot be Python's, such as nanoseconds inside lists."""
    try:
        plain = _plain(column)
        values: list[Any] = plain.to_pylist()
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError, NotImplementedError) as error:  # pyarrow's errors of casting among them
        problem = one_line(str(error))
        raise InputError(f"{name}: column {one_line(title)} cannot be read ({problem}); drop it") from error
    return values if _is_json(plain.type) else [json_value(value) for value in values]


def _plain(column: Any) -> Any:
    """The column with values of a type that JSON has, where its type is not nested."""
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        return _plain(column.dictionary_decode())
    if hasattr(column.type, "storage_type"):
        return _plain(column.storage)
    if types.is_floating(column.type):
        wide = column.cast("double")
        return compute.if_else(compute.is_finite(wide), wide, None)
    if types.is_temporal(column.type) or types.is_decimal(column.type):
        return column.cast("string")
    return column


def _is_json(kind: Any) -> bool:
    """Whether Python's values of an Arrow type are JSON values already. A double is: `_plain` has seen to it."""
    from pyarrow import types

    is_text = types.is_string(kind) or types.is_large_string(kind)
    return is_text or types.is_integer(kind) or types.is_boolean(kind) or kind == "double"


def json_value(value: Any) -> Any:
    """A Python value out of Arrow as one of JSON."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dict):
        return {str(name): json_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    return str(value)
