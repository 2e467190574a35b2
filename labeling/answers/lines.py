"""The lines of several parts in the order of row numbers, as Arrow tables: what labels are made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.answers.entry import lines_schema
from preftree.labeling.answers.part import Part

_READ_LINES = 8192
_ROWS = 4096  # of a table, where nobody says how many


class LineReader:
    """Reads forwards. Of a row in several parts, only the lines of the latest part are there.

    A part is opened when its first row is due, so that parts that follow on one another are read one by one.
    """

    def __init__(self, parts: Sequence[Part], columns: Sequence[str] | None = None) -> None:
        """columns: to read, the first of them "row"; all of `lines_schema` if left out."""
        import pyarrow as pa

        schema = lines_schema()
        self._schema = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        self._waiting = deque(sorted(parts, key=lambda part: part.first))
        self._ranks = {part.name: rank for rank, part in enumerate(sorted(parts, key=lambda part: part.order))}
        self._open: list[_Cursor] = []

    def upto(self, last: int) -> Any:
        """The lines of rows up to this number that were not read before: a pyarrow.Table, in the order of rows.

        Raises OutputError, and FileNotFoundError where another process has joined parts meanwhile.
        """
        import pyarrow as pa

        found: list[tuple[int, Any]] = []
        still_open = []
        try:
            for cursor in self._due(last):
                found += [(cursor.rank, batch) for batch in cursor.upto(last)]
                still_open += [] if cursor.is_done else [cursor]
        except FileNotFoundError:
            raise
        except OSError as error:
            raise OutputError(f"cannot read answers: {error}") from error
        self._open = still_open
        table = pa.Table.from_batches([batch for _, batch in found], self._schema)
        if len({rank for rank, _ in found}) < 2:
            return table
        return _latest(table, [rank for rank, batch in found for _ in range(len(batch))])

    def tables(self) -> Iterator[Any]:
        """All lines that were not read before, a few thousand rows at a time. Raises what `upto` does."""
        while self._open or self._waiting:
            firsts = [cursor.first for cursor in self._open] + [part.first for part in self._waiting][:1]
            yield self.upto(min(firsts) + _ROWS - 1)

    def _due(self, last: int) -> Iterator[_Cursor]:
        """Those that are open, then one after the other those that begin up to this row."""
        yield from self._open
        while self._waiting and self._waiting[0].first <= last:
            part = self._waiting.popleft()
            yield _Cursor(part, self._ranks[part.name], self._schema)


class _Cursor:
    """How far a part has been read.

    Attributes:
        rank: higher in later parts.
        is_done: whether all of it was read.
    """

    def __init__(self, part: Part, rank: int, schema: Any) -> None:
        self.rank = rank
        self._batches = part.batches(_READ_LINES, schema)
        self._batch: Any = next(self._batches, None)

    @property
    def is_done(self) -> bool:
        return self._batch is None

    @property
    def first(self) -> int:
        """The next row in it."""
        number: int = self._batch.column("row")[0].as_py()
        return number

    def upto(self, last: int) -> Iterator[Any]:
        while self._batch is not None:
            end = int(self._batch.column("row").to_numpy().searchsorted(last, side="right"))
            if end:
                yield self._batch.slice(0, end)
            if end < len(self._batch):
                self._batch = self._batch.slice(end)
                return
            self._batch = next(self._batches, None)


def _latest(table: Any, ranks: Sequence[int]) -> Any:
    """The lines in the order of rows, of each row those of one part. ranks: of the parts, line by line."""
    import numpy as np

    rows, mine = table.column("row").to_numpy(), np.array(ranks)
    steps = np.diff(rows)
    if (steps >= 0).all() and (steps[np.diff(mine) != 0] > 0).all():
        return table
    order = np.lexsort((np.arange(len(rows)), mine, rows))
    rows, mine = rows[order], mine[order]
    ends = np.flatnonzero(np.append(rows[1:] != rows[:-1], True))
    latest = np.repeat(mine[ends], np.diff(ends, prepend=-1))
    return table.take(order[mine == latest])
