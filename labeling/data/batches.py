"""Rows that follow on one another in an input, read as samples, or as columns where nothing is wrong with them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

from preftree.labeling.data.arrow import Table
from preftree.labeling.data.layout import Layout
from preftree.labeling.data.plain import PlainRows, plain_fields, plain_rows
from preftree.labeling.data.row import MAX_LINE_BYTES, BadRow, rivals
from preftree.labeling.data.shards import Shards
from preftree.labeling.data.source import Source
from preftree.labeling.types import Rejected, Sample

_FIRST_ROWS = 16


class RowBatch(Protocol):
    """Rows of an input, in its order.

    Attributes:
        plain: the rows as columns, and which of them are samples with nothing wrong (a NumPy array of bools); None
            where nothing is known of any.
    """

    @property
    def plain(self) -> tuple[PlainRows, Any] | None: ...

    def __len__(self) -> int: ...

    def only(self, where: Any) -> RowBatch:
        """Some of the rows. where: a NumPy array of bools."""

    def items(self) -> Iterator[Sample | Rejected]:
        """The rows one by one, a bad one as Rejected with its line and reason."""


@dataclass(frozen=True)
class ItemRows:
    """Rows that were read one by one."""

    read: Sequence[Sample | Rejected]

    plain = None

    def __len__(self) -> int:
        return len(self.read)

    def only(self, where: Any) -> ItemRows:
        return ItemRows([item for item, chosen in zip(self.read, where.tolist(), strict=True) if chosen])

    def items(self) -> Iterator[Sample | Rejected]:
        return iter(self.read)


@dataclass(frozen=True)
class ArrowRows:
    """Rows of a record batch.

    Attributes:
        table: that it is of.
        layout: what its columns are.
        batch: one of `table.batches()`, or some rows of it.
        lines: the line of each row, a NumPy array.
    """

    table: Table
    layout: Layout
    batch: Any
    lines: Any

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def only(self, where: Any) -> ArrowRows:
        import pyarrow as pa

        if where.all():
            return self
        return ArrowRows(self.table, self.layout, self.batch.filter(pa.array(where)), self.lines[where])

    def items(self) -> Iterator[Sample | Rejected]:
        for line, row in self.values():
            yield self.layout.item_of(row, line)

    def values(self) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
        """The rows as `Layout.rows` gives them."""
        for line, row in zip(self.lines.tolist(), self.table.values(self.batch), strict=True):
            yield line, row if isinstance(row, BadRow) else self.layout.mapping.applied(row)

    @cached_property
    def plain(self) -> tuple[PlainRows, Any] | None:
        import pyarrow as pa

        names = self.batch.schema.names
        if rivals(names) or self.batch.nbytes > MAX_LINE_BYTES:
            return None
        fields = plain_fields(names, self.layout)
        if fields is None:
            return None
        try:
            self.batch.validate(full=True)
        except pa.ArrowInvalid:  # text that is not UTF-8
            return None
        return plain_rows(self.batch, self.lines, fields)


def tables_of(source: Source, layout: Layout) -> Iterator[tuple[Table, Any]] | None:
    """The record batches of an input, each with its table; None unless it is one whose rows are samples."""
    if layout.shape.split is not None:
        return None
    if isinstance(source, Table):
        return ((source, batch) for batch in source.batches())
    if isinstance(source, Shards) and isinstance(source.sources[0], Table):
        return source.batches()
    return None


def row_batches(source: Source, layout: Layout, rows: int) -> Generator[RowBatch, None, None]:
    """All rows of an input in its order; ids are not compared.

    rows: of a batch at most, where it is no table. The first batches are smaller, so that nobody waits for many rows to
    be read before the first of them is used.
    """
    import numpy as np

    tables = tables_of(source, layout)
    if tables is None:
        size = min(rows, _FIRST_ROWS)
        with closing(layout.rows(source)) as found:
            while batch := [layout.item_of(row, line) for line, row in islice(found, size)]:
                yield ItemRows(batch)
                size = min(rows, 2 * size)
        return
    first = 1
    for table, batch in tables:
        yield ArrowRows(table, layout, batch, np.arange(first, first + batch.num_rows))
        first += batch.num_rows
