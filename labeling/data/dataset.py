"""An opened input: rows from files or from memory, recognised once, and read in streaming passes.

Memory does not grow with the input, but for the ids that several rows have.
"""

from __future__ import annotations

import hashlib
import logging
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, islice
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.data.batches import RowBatch, row_batches
from preftree.labeling.data.columns import Kind
from preftree.labeling.data.formats import open_source
from preftree.labeling.data.ids import UsedIds
from preftree.labeling.data.inputs import files_of
from preftree.labeling.data.layout import Layout, column_mapping, no_rows, recognise
from preftree.labeling.data.selection import RowRange
from preftree.labeling.data.shards import Shards
from preftree.labeling.data.side_by_side import SideBySide, are_side_by_side
from preftree.labeling.data.source import File, Source
from preftree.labeling.data.survey import surveyed
from preftree.labeling.terminal import one_line, visible
from preftree.labeling.types import Rejected, Sample
from preftree.labeling.values import known_names

_LOGGER = logging.getLogger("preftree")
_ROWS = 1024  # of a batch


@dataclass(frozen=True)
class DatasetInfo:
    """What one look at a whole input tells.

    Attributes:
        name: of the input, for messages.
        rows: how many are not blank.
        columns: those that pass through.
        has_gold: whether a row says which response is better.
        first_lines: for each kind of sample that a row looks like, by its columns, the first line with one.
        lone_line: the first line whose list of responses has one entry.
        repeated: hashes of ids that several rows may have.
        about: format and recognised columns, for people.
        files: where there are several: of each, the number of lines before it, and its name.
        odd_golds: rows with a gold that cannot be read, which are labelled without.
    """

    name: str
    rows: int
    columns: dict[str, Kind]
    has_gold: bool
    first_lines: dict[tuple[str, ...], int]
    lone_line: int | None
    repeated: frozenset[int] = frozenset()
    about: str = ""
    files: Sequence[tuple[int, str]] = ()
    odd_golds: int = 0

    def check_column(self, column: str, use: str) -> None:
        """UsageError where there is no such column. use: what it would be for."""
        if column not in self.columns:
            names = one_line(known_names(column, self.columns)) or "no such column"
            raise UsageError(f"{self.name} has no column {one_line(column)} {use}; it has {names}")

    def place(self, line: int) -> str:
        """ "line 7", or "b.jsonl, line 3" where lines are counted across files."""
        if not self.files:
            return f"line {line}"
        before, name = self.files[bisect_right(self.files, line - 1, key=lambda entry: entry[0]) - 1]
        return f"{visible(name)}, line {line - before}"


class Dataset:
    """An opened input: its path, format, layout and hash.

    Attributes:
        source: its rows as they are.
        files: those that it was opened from, in order.
    """

    def __init__(self, source: Source, mapping: Sequence[str] = (), files: Sequence[File] = ()) -> None:
        self.source = source
        self.files = files
        self._mapping = column_mapping(mapping)

    @classmethod
    def open(
        cls, inputs: str | Path | Sequence[str | Path], mapping: Sequence[str] = (), offline: bool = False
    ) -> Dataset:
        """Open files; rows are read later.

        Args:
            inputs: paths, patterns, folders of shards, URLs, or "-" for standard input; see `inputs.files_of`.
            mapping: "FIELD=COLUMN" texts, see `layout.ColumnMapping`.
            offline: data sets of the Hugging Face hub come from its cache only.

        Raises:
            PreftreeError: an input is not there, or is none; several are of different formats.
        """
        files = files_of(inputs, offline)
        sources = [open_source(file) for file in files]
        if are_side_by_side(sources):
            return cls(SideBySide(*sources), mapping, files)
        return cls(sources[0] if len(sources) == 1 else Shards(sources), mapping, files)

    @property
    def name(self) -> str:
        """For messages."""
        return self.source.name

    @property
    def paths(self) -> tuple[str, ...]:
        """Where to open it again."""
        return tuple(file.recorded for file in self.files)

    @cached_property
    def layout(self) -> Layout:
        """What the columns are. Raises InputError."""
        try:
            layout = self._recognised()
        except InputError:
            if isinstance(self.source, Shards):
                self.source.check()  # files of two kinds look like one of none
            raise
        if isinstance(self.source, Shards):
            self.source.check(layout)
        return layout

    def _recognised(self) -> Layout:
        return recognise(self.source, self._mapping)

    @cached_property
    def digests(self) -> list[str]:
        """The sha256 of each file. Raises InputError."""
        return [file.sha256() for file in self.files]

    @property
    def sha256(self) -> str:
        """Of all files, in their order; that of a single file is its own. Raises InputError."""
        return (
            self.digests[0] if len(self.digests) == 1 else hashlib.sha256("\n".join(self.digests).encode()).hexdigest()
        )

    @cached_property
    def info(self) -> DatasetInfo:
        """Counts rows and finds the columns that pass through; bad rows are no errors. Raises InputError."""
        source, layout = self.source, self.layout
        found = surveyed(source, layout)
        if not found.rows:
            raise no_rows(self.name)
        if found.odd_number is not None:
            raise InputError(
                f"{self.name}: a gold is {one_line(str(found.odd_number))}, so its numbers do not say which response "
                "is better as they do here (0 the first, 1 the second); write a, b and tie"
            )
        for name, kind in source.left_out().items():
            _LOGGER.warning(f"{self.name}: column {one_line(name)} is left out: its type, {kind}, cannot be read")
        if found.odd_golds == found.rows:
            column = self.layout.mapping.columns.get("gold", layout.shape.raw_gold)
            _LOGGER.warning(
                f"{self.name}: column {one_line(str(column))} says of no row which response is better (a, b, tie, 0, "
                "1), so labels have no gold; if another column does, name it: --map gold=COLUMN"
            )
        if layout.warning:
            _LOGGER.warning(f"{self.name}: {layout.warning}")
        return DatasetInfo(
            name=self.name,
            rows=found.rows,
            columns=found.kinds.resolve(),
            has_gold=found.has_gold,
            first_lines=found.first_lines,
            lone_line=found.lone_line,
            repeated=found.ids.repeated(),
            about=f"{source.format}, {layout.about}",
            files=source.places() if isinstance(source, Shards) else (),
            odd_golds=found.odd_golds,
        )

    def read(self, limit: int | None = None, repeated: frozenset[int] = frozenset()) -> Iterator[Sample | Rejected]:
        """The first `limit` rows in file order, a bad one as Rejected with its line and reason.

        repeated: that of `info`; of the ids that it names each belongs to the first good row that has it, and later
        rows are rejected. Without it, ids are not compared.
        """
        used = UsedIds(repeated)
        with closing(self.layout.rows(self.source)) as rows:
            for number, row in islice(rows, limit):
                yield used.checked(self.layout.item_of(row, number))

    def pick(self, rows: Any) -> Iterator[Sample | Rejected]:
        """The rows of these numbers, see `rows_of`, with ids compared over the whole input."""
        import numpy as np

        if isinstance(rows, RowRange):
            return islice(self.read(rows.stop, self.info.repeated), rows.start, None)
        chosen = np.zeros(int(rows[-1]) + 1, np.bool_)
        chosen[rows] = True
        return compress(self.read(len(chosen), self.info.repeated), chosen.tobytes())

    def batches(self, rows: Any) -> Iterator[tuple[Any, RowBatch]]:
        """What `pick` reads, a batch at a time, each with the numbers of its rows (a NumPy array)."""
        import numpy as np

        used, first = UsedIds(self.info.repeated), 0
        with closing(row_batches(self.source, self.layout, _ROWS)) as batches:
            for batch in batches:
                checked, end = used.checked_batch(batch), first + len(batch)
                here = slice(*rows.searchsorted((first, end)))
                if len(numbers := np.asarray(rows[here])):
                    chosen = np.zeros(len(batch), np.bool_)
                    chosen[numbers - first] = True
                    yield numbers, checked.only(chosen)
                if here.stop == len(rows):
                    return
                first = end

    def record(self) -> dict[str, Any]:
        """What a run remembers of its input."""
        paths = self.paths
        known = {"sha256": self.sha256, "rows": self.info.rows}
        return {"path": paths[0], **known} if len(paths) == 1 else {"path": paths, "sha256s": self.digests, **known}

    def difference(self, record: Mapping[str, Any]) -> str | None:
        """The name of what is not as recorded, None where all of it is."""
        then = record.get("sha256s", [record["sha256"]])
        if len(then) != len(self.files):
            return self.name
        return next(
            (file.name for file, now, old in zip(self.files, self.digests, then, strict=True) if now != old), None
        )

    def check_unchanged(self) -> None:
        """InputError where a file is not what it was when its hash was taken."""
        for file, before in zip(self.files, self.digests, strict=True):
            if file.sha256() != before:
                raise InputError(f"{file} changed while it was being labelled; label it again, --overwrite")
