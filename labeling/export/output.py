"""Files that comparisons are written to, one after the other."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

from preftree.labeling.data.label_table import arrow_type
from preftree.labeling.export.comparison import Comparison
from preftree.labeling.export.formats import Format
from preftree.labeling.export.softening import Softening

# What is in memory at a time: rows hold whole conversations.
_GROUP_ROWS = 1024


class Output:
    """Counts comparisons, and writes them nowhere.

    Attributes:
        pairs: that were added.
        rows: that were written, where a pair may be several.
    """

    def __init__(self) -> None:
        self.pairs = 0

    @property
    def rows(self) -> int:
        return self.pairs

    def add(self, one: Comparison) -> None:
        self.pairs += 1

    def close(self) -> None:
        """Writes what is left to write."""


class JsonLines(Output):
    """A row of a format on each line."""

    def __init__(self, file: BinaryIO, form: Format, softening: Softening | None) -> None:
        """softening: makes several rows of a comparison."""
        super().__init__()
        self._file, self._form, self._softening = file, form, softening
        self._rows = 0

    @property
    def rows(self) -> int:
        return self._rows

    def add(self, one: Comparison) -> None:
        super().add(one)
        for copy in self._softening.of(one) if self._softening else (one,):
            for row in self._form.rows(copy):
                self._rows += 1
                self._write(row)

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")


class Parquet(JsonLines):
    """The same rows as a table."""

    def __init__(self, file: BinaryIO, form: Format, softening: Softening | None) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        super().__init__(file, form, softening)
        self._schema = pa.schema([(name, arrow_type(spec)) for name, spec in form.columns.items()])
        self._writer = parquet.ParquetWriter(file, self._schema)
        self._group: list[dict[str, Any]] = []

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _write(self, row: dict[str, Any]) -> None:
        self._group.append(row)
        if len(self._group) == _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        from pyarrow import Table

        if self._group:
            self._writer.write_table(Table.from_pylist(self._group, schema=self._schema))
            self._group = []
