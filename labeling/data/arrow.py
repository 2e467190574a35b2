"""Files of Arrow columns as rows of JSON values, a batch at a time: Parquet and Arrow's IPC.

What JSON has no word for becomes text: times and decimals as Arrow writes them, bytes as base64. NaN and infinities
become null, as they do in JSON lines.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.data.arrow_types import is_read, named
from preftree.labeling.data.columns import check_names
from preftree.labeling.data.row import MAX_LINE_BYTES, TOO_LONG, BadRow, rivals
from preftree.labeling.data.source import File, Rows
from preftree.labeling.terminal import one_line

# What is Python objects at a time, whichever is less.
BATCH_ROWS = 1024
BATCH_BYTES = 32 * 1024 * 1024

PARQUET_MAGIC, FILE_MAGIC, STREAM_MAGIC = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"

Batches = tuple[Any, Callable[[Sequence[int] | None], Iterator[Any]]]
"""(schema, record batches of the columns with these places, None for all)"""


@dataclass(frozen=True)
class Table:
    """See `preftree.labeling.data.source.Source`. open_batches: a context with `Batches`."""

    name: str
    format: str
    open_batches: Callable[[], AbstractContextManager[Batches]]

    def rows(self, last: int = 0) -> Rows:
        """A null is left out where only some rows can have a value: of a table with samples of several kinds."""
        number = last
        for batch in self.batches():
            for row in self.values(batch):
                number += 1
                yield number, row
        return number

    def batches(self) -> Iterator[Any]:
        """The rows as record batches of the columns that are read, a few at a time. Raises what `rows` does."""
        with self._reading(), self.open_batches() as (schema, batches):
            for batch in batches(self._places(schema)):
                step = batch_rows(batch.num_rows, batch.nbytes)
                for start in range(0, batch.num_rows, step):
                    yield batch.slice(start, step)

    def values(self, batch: Any) -> Iterator[dict[str, Any] | BadRow]:
        """The rows of one of `batches`, or of some of its rows. Raises what `rows` does."""
        optional = rivals(batch.schema.names)
        with self._reading():
            for row in _rows(self.name, batch):
                if optional and isinstance(row, dict):
                    yield {k: v for k, v in row.items() if v is not None or k not in optional}
                else:
                    yield row

    def left_out(self) -> dict[str, str]:
        """See `preftree.labeling.data.source.Source`."""
        with self._reading(), self.open_batches() as (schema, _):
            self._places(schema)
            return {field.name: named(field.type) for field in schema if not is_read(field.type)}

    def _places(self, schema: Any) -> list[int] | None:
        """Of the columns to read, None for all: nothing of the others is looked at, not even whether it is sound."""
        check_names(self.name, schema.names)
        places = [place for place, field in enumerate(schema) if is_read(field.type)]
        if schema.names and not places:
            first = schema.field(0)
            raise InputError(
                f"{self.name} has no column of a type that is read: {one_line(first.name)} is {named(first.type)}; "
                "save it with columns of text"
            )
        return None if len(places) == len(schema.names) else places

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Inside, what is wrong with a file becomes an InputError."""
        import pyarrow as pa

        try:
            yield
        except MemoryError as error:  # pyarrow's among them, which is an ArrowException, too
            raise InputError(
                f"there is not enough memory to read {self.name}; free some, or save it again in smaller batches"
            ) from error
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise InputError(f"cannot read {self.name}: {error.strerror}") from error
            problem = one_line(str(error)).rstrip(".")
            raise InputError(
                f"{self.name} is damaged, cut off or no {self.format} ({problem}); get it whole again"
            ) from error


@contextmanager
def parquet_batches(file: File) -> Iterator[Batches]:
    """Row groups are read piece by piece: one may be as large as the file. What pyarrow decodes itself is sound.

    With `pre_buffer`, pyarrow keeps what it has read of every row group.
    """
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file.path, buffer_size=1 << 20, page_checksum_verification=True, pre_buffer=False) as opened:
        groups = [opened.metadata.row_group(index) for index in range(opened.metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        schema, rows = opened.schema_arrow, batch_rows(opened.metadata.num_rows, size)

        def batches(places: Sequence[int] | None) -> Iterator[Any]:
            if places is None:
                return opened.iter_batches(rows)
            names = [schema.names[place] for place in places]  # a name stands for columns inside of others, too
            return (batch.select(names) for batch in opened.iter_batches(rows, columns=names))

        yield schema, batches


@contextmanager
def arrow_batches(file: File) -> Iterator[Batches]:
    import pyarrow as pa

    with pa.memory_map(str(file.path)) as source:
        is_stream = source.read(len(FILE_MAGIC)) != FILE_MAGIC
        if is_stream:
            source.seek(max(0, source.size() - len(_END_OF_STREAM)), os.SEEK_SET)
            if source.read() != _END_OF_STREAM:
                raise InputError(f"{file} is cut off: a stream of Arrow ends with a mark; get it whole again")

        def opened(places: Sequence[int] | None) -> Any:
            source.seek(0)
            options = pa.ipc.IpcReadOptions(included_fields=list(places or ()))
            return (pa.ipc.open_stream if is_stream else pa.ipc.open_file)(source, options=options)

        def batches(places: Sequence[int] | None) -> Iterator[Any]:
            reader = opened(places)
            return map(checked, reader if is_stream else map(reader.get_batch, range(reader.num_record_batches)))

        yield opened(None).schema, batches


def checked(batch: Any) -> Any:
    """Raises pyarrow's errors for what is malformed: an offset may point anywhere, and nobody else checks it.

    Text that is not UTF-8 is left to its rows.
    """
    import pyarrow as pa

    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        as_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
        for column in batch.columns:
            column.view(as_bytes.get(column.type, column.type)).validate(full=True)
    return batch


def batch_rows(rows: int, size: int) -> int:
    """How many rows to take at a time, where so many have `size` bytes together."""
    return max(1, min(BATCH_ROWS, rows * BATCH_BYTES // max(size, 1)))


def _rows(name: str, batch: Any) -> Iterator[dict[str, Any] | BadRow]:
    names = batch.schema.names
    if not names:
        yield from ({} for _ in range(batch.num_rows))
    try:
        columns = [column_values(name, title, column) for title, column in zip(names, batch.columns, strict=True)]
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


def column_values(name: str, title: str, column: Any) -> list[Any]:
    """Raises UnicodeDecodeError, and InputError where values cannot be Python's, such as nanoseconds inside lists."""
    try:
        values: list[Any] = flat(column).to_pylist()
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError, NotImplementedError) as error:  # pyarrow's errors of casting among them
        problem = one_line(str(error))
        raise InputError(f"{name}: column {one_line(title)} cannot be read ({problem}); drop it") from error
    return [json_value(value) for value in values]


def flat(column: Any) -> Any:
    """The column with values of a type that JSON has, where its type is not nested."""
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        return flat(column.dictionary_decode())
    if hasattr(column.type, "storage_type"):
        return flat(column.storage)
    if types.is_floating(column.type):
        wide = column.cast("double")
        return compute.if_else(compute.is_finite(wide), wide, None)
    if types.is_temporal(column.type) or types.is_decimal(column.type):
        return column.cast("string")
    return column


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
