"""Rows that Python holds already: dictionaries, a pandas DataFrame, an Arrow table, a dataset of `datasets`."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.data.columns import Kind
from preftree.labeling.data.row import BadRow
from preftree.labeling.data.source import NumberedRow, Source
from preftree.labeling.data.table import Table

# In messages, in place of a file's name.
PLACE = Path("rows")


def source_of(rows: Any) -> Source:
    """`rows` as an input. Raises InputError for objects that hold no rows."""
    if (table := _arrow_table(rows)) is not None:
        return Table(PLACE, "Arrow", lambda: _opened(table), _no_digest)
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
        raise InputError(
            f"{type(rows).__name__} is no collection of rows; use a list of dictionaries or of preftree.Pair, a pandas "
            "DataFrame, a pyarrow.Table or a datasets.Dataset"
        )
    return Records(list(rows))


@dataclass(frozen=True)
class Records:
    """Dictionaries as a `preftree.labeling.data.source.Source`. Rows are numbered from 1."""

    records: Sequence[Any]
    path: Path = PLACE
    format: str = "dictionaries"

    def rows(self, columns: Collection[str] | None = None) -> Generator[NumberedRow]:
        for number, record in enumerate(self.records, 1):
            if isinstance(record, Mapping):
                yield number, dict(record)
            else:
                yield number, BadRow(f"not a dictionary: {type(record).__name__}")

    def kinds(self) -> Mapping[str, Kind] | None:
        return None

    def sha256(self) -> str:
        return _no_digest()


def _arrow_table(rows: Any) -> Any:
    """A pyarrow.Table of `rows`, None where they are no table. None of the libraries is imported for it."""
    library = type(rows).__module__.partition(".")[0]
    if library == "pyarrow" and hasattr(rows, "to_batches"):
        return rows
    if library == "pandas" and hasattr(rows, "columns"):
        import pyarrow as pa

        return pa.Table.from_pandas(rows, preserve_index=False)
    if library == "datasets" and hasattr(rows, "with_format"):
        return rows.with_format("arrow")[:]
    return None


@contextmanager
def _opened(table: Any) -> Iterator[tuple[Any, Iterator[Any]]]:
    yield table.schema, iter(table.to_batches())


def _no_digest() -> str:
    """Nobody resumes a run over rows in memory."""
    return ""
