"""One look at all rows of an input: how many there are, of which kinds, and with which columns."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.data.arrow import column_values, flat
from preftree.labeling.data.batches import ArrowRows, tables_of
from preftree.labeling.data.columns import EXACT_IN_FLOAT, ColumnKinds
from preftree.labeling.data.ids import IdHashes
from preftree.labeling.data.layout import Layout
from preftree.labeling.data.plain import PlainRows
from preftree.labeling.data.row import BadRow, is_number, is_odd_gold
from preftree.labeling.data.source import Source


class Survey:
    """What is known of the rows that were added.

    Attributes:
        rows: how many there are.
        kinds: of the columns that pass through.
        ids: hashes of all ids.
        first_lines: for each kind of sample, by its columns, the first line with one.
        has_gold: whether a row says which response is better.
        lone_line: the first line whose list of responses has one entry.
        odd_golds: rows with a gold that cannot be read.
        odd_number: the first of these golds that is a number.
    """

    def __init__(self, layout: Layout) -> None:
        self.rows = 0
        self.kinds, self.ids = ColumnKinds(), IdHashes()
        self.first_lines: dict[tuple[str, ...], int] = {}
        self.has_gold = False
        self.lone_line: int | None = None
        self.odd_golds = 0
        self.odd_number: Any = None
        self._layout = layout

    def add_row(self, line: int, row: dict[str, Any] | BadRow) -> None:
        """One of `Layout.rows`."""
        self.rows += 1
        if isinstance(row, BadRow):
            return
        look = self._layout.look(row, line)
        if look.id is not None:
            self.ids.add((look.id,))
        self.first_lines.setdefault(look.fields, line)
        self.has_gold = self.has_gold or look.has_gold
        if look.odd_gold is not None:
            self._add_odd_gold(look.odd_gold)
        if self.lone_line is None and isinstance(look.responses, list) and len(look.responses) == 1:
            self.lone_line = line
        self.kinds.add(look.extra)

    def add_batch(self, rows: ArrowRows) -> None:
        """Rows of a table: all at once where every one has an id and is of one kind."""
        plain = rows.plain
        if plain is None or not plain[0].has_ids or (examples := _examples(plain[0])) is None:
            for line, row in rows.values():
                self.add_row(line, row)
            return
        samples, _ = plain
        self.rows += len(rows)
        self.ids.add(samples.ids.to_pylist())
        self.first_lines.setdefault(samples.fields, int(rows.lines[0]))
        self.has_gold = self.has_gold or samples.gold is not None
        for gold, times in [] if samples.gold is None else _odd_golds(samples.gold):
            self._add_odd_gold(gold, times)
        for name, values in examples.items():
            for value in values:
                self.kinds.add({name: value})

    def _add_odd_gold(self, gold: Any, times: int = 1) -> None:
        self.odd_golds += times
        if self.odd_number is None and is_number(gold):
            self.odd_number = gold


def _odd_golds(column: Any) -> list[tuple[Any, int]]:
    """Each gold that cannot be read, and how often it is there."""
    from pyarrow import compute

    counts = compute.value_counts(column).to_pylist()
    return [(one["values"], one["counts"]) for one in counts if is_odd_gold(one["values"])]


def _examples(rows: PlainRows) -> dict[str, list[Any]] | None:
    """For each column that passes through, values of every kind that it holds; None where one cannot be read."""
    try:
        return {name: _values(column) for name, column in rows.extra.items()}
    except InputError:  # which names the file where rows are read one by one
        return None


def _values(column: Any) -> list[Any]:
    import pyarrow as pa
    from pyarrow import compute

    if pa.types.is_floating(column.type):
        column = flat(column)
    is_flat = any(is_one(column.type) for is_one in (pa.types.is_string, pa.types.is_boolean, pa.types.is_floating))
    if is_flat or column.null_count == len(column):
        return column.drop_null()[:1].to_pylist() or [None]
    if pa.types.is_integer(column.type):
        ends = list(compute.min_max(column).as_py().values())
        if all(abs(end) <= EXACT_IN_FLOAT for end in ends):
            return ends
    return column_values("rows", "", column)


def surveyed(source: Source, layout: Layout) -> Survey:
    """A look at all rows. Raises InputError."""
    import numpy as np

    found, tables = Survey(layout), tables_of(source, layout)
    if tables is None:
        with closing(layout.rows(source)) as rows:
            for line, row in rows:
                found.add_row(line, row)
        return found
    for table, batch in tables:
        lines = np.arange(found.rows + 1, found.rows + 1 + batch.num_rows)
        found.add_batch(ArrowRows(table, layout, batch, lines))
    return found
