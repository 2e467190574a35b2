"""Rows that Python holds already: dictionaries, a pandas DataFrame, an Arrow table, a dataset of `datasets`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.data.arrow import BATCH_ROWS, Batches, Table, checked
from preftree.labeling.data.row import BadRow
from preftree.labeling.data.source import Rows, Source

# In messages, in place of a file's name.
PLACE = "rows"


def source_of(rows: Any) -> Source:
    """`rows` as an input. Raises InputError for objects that hold no rows."""
    if (opened := _arrow_batches(rows)) is not None:
        return Table(PLACE, "Arrow", lambda: nullcontext(opened()))
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
        raise InputError(
            f"{type(rows).__name__} is no collection of rows; use a list of dictionaries or of preftree.Pair, a pandas "
            "DataFrame, a pyarrow.Table or a datasets.Dataset"
        )
    return Records(list(rows))


@dataclass(frozen=True)
class Records:
    """Dictionaries as a `preftree.labeling.data.source.Source`."""

    records: Sequence[Any]
    name: str = PLACE
    format: str = "dictionaries"

    def rows(self, last: int = 0) -> Rows:
        for number, record in enumerate(self.records, last + 1):
            if isinstance(record, Mapping):
                yield number, dict(record)
            else:
                yield number, BadRow(f"not a dictionary: {type(record).__name__}")
        return last + len(self.records)

    def left_out(self) -> dict[str, str]:
        return {}


def _arrow_batches(rows: Any) -> Callable[[], Batches] | None:
    """Schema and record batches of a table, None for what is none. None of the libraries is imported for it."""
    library = type(rows).__module__.partition(".")[0]
    if library == "pyarrow" and hasattr(rows, "to_batches"):
        return lambda: (rows.schema, partial(_selected, rows.to_batches()))
    if library == "pandas" and hasattr(rows, "columns"):
        import pyarrow as pa

        return _arrow_batches(pa.Table.from_pandas(rows, preserve_index=False))
    if library == "datasets" and hasattr(rows, "num_rows") and hasattr(rows, "features"):
        tables = rows.with_format("arrow")
        schema = rows.features.arrow_schema
        return lambda: (
            schema,
            partial(_selected, (batch for table in tables.iter(BATCH_ROWS) for batch in table.to_batches())),
        )
    return None


def _selected(batches: Iterable[Any], places: Sequence[int] | None) -> Iterator[Any]:
    return (checked(batch if places is None else batch.select(places)) for batch in batches)
