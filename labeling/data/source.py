"""What every input is to the reader: rows, each with its number."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from pathlib import Path
from typing import Any, Protocol

from preftree.labeling.data.columns import Kind
from preftree.labeling.data.row import BadRow

NumberedRow = tuple[int, dict[str, Any] | BadRow]


class Source(Protocol):
    """format: for people, "Parquet" or "JSONL, gzip"."""

    @property
    def path(self) -> Path: ...

    @property
    def format(self) -> str: ...

    def rows(self, columns: Collection[str] | None = None) -> Generator[NumberedRow]:
        """Every row as JSON values, from 1 on in file order, or why it cannot be one. Streams, and may be asked again.

        columns: those that are wanted, of `kinds`; where that is None, rows come with all of theirs anyhow.
        Raises InputError where the file as a whole is at fault: damaged, cut off, not what its name says.
        """

    def kinds(self) -> Mapping[str, Kind] | None:
        """Of every column, where the file says what it holds; None where only its rows tell.

        Every value is read: a damaged file is found. Raises InputError.
        """

    def sha256(self) -> str:
        """Of the bytes on disk. Raises InputError."""
