"""An opened input: rows from files or from memory, recognised once, and read in streaming passes.

Memory does not grow with the input, but for eight bytes a row and the ids that several rows have.
"""

from __future__ import annotations

import hashlib
import logging
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import compress, islice
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.data.batches import ItemRows, RowBatch, row_batches
from preftree.labeling.data.columns import ColumnKinds, Kind
from preftree.labeling.data.formats import open_source
from preftree.labeling.data.inputs import files_of
from preftree.labeling.data.layout import Layout, column_mapping, no_rows, recognise
from preftree.labeling.data.row import BadRow, quoted
from preftree.labeling.data.shards import Shards
from preftree.labeling.data.source import File, Source
from preftree.labeling.terminal import one_line, visible
from preftree.labeling.types import Rejected, Sample

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

    def check_column(self, column: str, use: str) -> None:
        """UsageError where there is no such column. use: what it would be for."""
        if column not in self.columns:
            names = ", ".join(one_line(name) for name in self.columns) or "no such column"
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
    def open(cls, inputs: str | Path | Sequence[str | Path], mapping: Sequence[str] = ()) -> Dataset:
        """Open files; rows are read later.

        Args:
            inputs: paths, patterns, folders of shards, URLs, or "-" for standard input; see `inputs.files_of`.
            mapping: "FIELD=COLUMN" texts, see `layout.ColumnMapping`.

        Raises:
            PreftreeError: an input is not there, or is none; several are of different formats.
        """
        files = files_of(inputs)
        sources = [open_source(file) for file in files]
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
        number = 0
        kinds, hashes = ColumnKinds(), array("q")
        first_lines: dict[tuple[str, ...], int] = {}
        has_gold, lone_line = False, None
        with closing(layout.rows(source)) as rows:
            for line, row in rows:
                number += 1
                if isinstance(row, BadRow):
                    continue
                look = layout.look(row, line)
                if look.id is not None:
                    hashes.append(hash(look.id))
                first_lines.setdefault(look.fields, line)
                has_gold = has_gold or look.has_gold
                if lone_line is None and isinstance(look.responses, list) and len(look.responses) == 1:
                    lone_line = line
                kinds.add(look.extra)
        if not number:
            raise no_rows(self.name)
        for name, kind in source.left_out().items():
            _LOGGER.warning(f"{self.name}: column {one_line(name)} is left out: its type, {kind}, cannot be read")
        return DatasetInfo(
            name=self.name,
            rows=number,
            columns=kinds.resolve(),
            has_gold=has_gold,
            first_lines=first_lines,
            lone_line=lone_line,
            repeated=_repeated(hashes),
            about=f"{source.format}, {layout.about}",
            files=source.places() if isinstance(source, Shards) else (),
        )

    def read(self, limit: int | None = None, repeated: frozenset[int] = frozenset()) -> Iterator[Sample | Rejected]:
        """The first `limit` rows in file order, a bad one as Rejected with its line and reason.

        repeated: that of `info`; of the ids that it names each belongs to the first good row that has it, and later
        rows are rejected. Without it, ids are not compared.
        """
        used = _UsedIds(repeated)
        with closing(self.layout.rows(self.source)) as rows:
            for number, row in islice(rows, limit):
                yield used.checked(self.layout.item_of(row, number))

    def pick(self, rows: Any) -> Iterator[Sample | Rejected]:
        """The rows of these numbers, see `rows_of`, with ids compared over the whole input."""
        import numpy as np

        chosen = np.zeros(int(rows[-1]) + 1, np.bool_)
        chosen[rows] = True
        return compress(self.read(len(chosen), self.info.repeated), chosen.tobytes())

    def batches(self, rows: Any) -> Iterator[tuple[Any, RowBatch]]:
        """What `pick` reads, a batch at a time, each with the numbers of its rows (a NumPy array)."""
        import numpy as np

        used, first = _UsedIds(self.info.repeated), 0
        with closing(row_batches(self.source, self.layout, _ROWS)) as batches:
            for batch in batches:
                checked, end = used.checked_batch(batch), first + len(batch)
                here = slice(*rows.searchsorted((first, end)))
                if len(numbers := rows[here]):
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


class _UsedIds:
    """Of ids that several rows have, each belongs to the first good row that has it. repeated: their hashes."""

    def __init__(self, repeated: frozenset[int]) -> None:
        self._repeated = repeated
        self._used: set[str] = set()

    def checked(self, item: Sample | Rejected) -> Sample | Rejected:
        """The next row; rejected where an earlier one has its id."""
        if not self._repeated or isinstance(item, Rejected) or hash(item.id) not in self._repeated:
            return item
        if item.id in self._used:
            return rejected(item, f"duplicate id: {quoted(item.id)} was used by an earlier row")
        self._used.add(item.id)
        return item

    def checked_batch(self, batch: RowBatch) -> RowBatch:
        """The next rows, as they are where nobody else can have an id of them."""
        if not self._repeated or (
            (plain := batch.plain) is not None
            and not plain[0].ids.null_count
            and self._repeated.isdisjoint(map(hash, plain[0].ids.to_pylist()))
        ):
            return batch
        return ItemRows([self.checked(item) for item in batch.items()])


def rejected(sample: Sample, reason: str) -> Rejected:
    """The row of a sample that could be read but not labelled."""
    return Rejected(sample.line, reason, sample.id, sample.extra, getattr(sample, "gold", None))


def _repeated(hashes: array[int]) -> frozenset[int]:
    """Hashes are Python's: 64 bits, with another key in every process. Two ids may share one, so those that are
    suspected of being used twice are compared as they are when rows are read again.
    """
    import numpy as np

    values, counts = np.unique(np.frombuffer(hashes, np.int64), return_counts=True)
    return frozenset(values[counts > 1].tolist())
