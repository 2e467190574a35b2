"""Samples from a file or a saved dataset, in streaming passes: `survey` learns the columns, `read` yields the rows.

Memory does not grow with the file, but for a 16-byte digest of every id (about 100 bytes a row, in a set):
without it a duplicate far down could not be told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from labeling.data.columns import ColumnKinds, Kind
from labeling.data.layout import Layout, no_rows, recognise
from labeling.data.mapping import column_mapping
from labeling.data.row import SEVERAL_FIELDS, BadRow, quoted, rivals
from labeling.data.sources.detection import open_source
from labeling.types import Rejected, Sample


@dataclass(frozen=True)
class Survey:
    """What one look at the whole input tells. rows: those that are not blank. columns: the extra ones.

    first_lines: for each kind of sample that a row looks like, by its columns, the first line with one. lone_line: the
    first line whose list of responses has one entry. about: format and recognised columns, for people.
    """

    path: Path
    rows: int
    sha256: str
    columns: dict[str, Kind]
    has_gold: bool
    first_lines: dict[tuple[str, ...], int]
    lone_line: int | None
    about: str = ""


def survey(path: str | Path, mapping: Sequence[str] = ()) -> Survey:
    """Counts rows, hashes the file, finds its extra columns; bad rows are no errors. Raises InputError.

    mapping: "FIELD=COLUMN" texts, see `labeling.data.mapping`.
    """
    source = open_source(Path(path))
    layout = recognise(source, column_mapping(mapping))
    kinds = source.kinds()
    uniform = kinds is not None and not rivals(kinds)
    tally = _Tally(layout)
    with closing(source.rows()) as rows:
        for number, row in rows:
            tally.add(number, row)
            if uniform and SEVERAL_FIELDS not in tally.first_lines and tally.first_lines:
                break  # the table's other rows tell nothing more
    count = tally.rows if kinds is None else source.count()
    if count == 0:
        raise no_rows(path)
    return Survey(
        path=Path(path),
        rows=count,
        sha256=source.sha256(),
        columns=layout.kinds(kinds) if uniform and kinds else tally.kinds.resolve(),
        has_gold=tally.has_gold,
        first_lines=tally.first_lines,
        lone_line=tally.lone_line,
        about=f"{source.format}, {layout.about}",
    )


def read(path: str | Path, limit: int | None = None, mapping: Sequence[str] = ()) -> Iterator[Sample | Rejected]:
    """Yields the first `limit` rows in file order, a bad one as Rejected with its line and reason.

    An id belongs to the first good row that has it; later ones are rejected. mapping: see `survey`.
    """
    source = open_source(Path(path))
    layout = recognise(source, column_mapping(mapping))
    seen: set[bytes] = set()
    with closing(source.rows()) as rows:
        for number, row in islice(rows, limit):
            item = Rejected(number, str(row)) if isinstance(row, BadRow) else layout.item(row, number)
            if not isinstance(item, Rejected):
                digest = hashlib.blake2b(item.id.encode("utf-8"), digest_size=16).digest()
                if digest in seen:
                    item = _duplicate(item)
                seen.add(digest)
            yield item


def rejected(sample: Sample, reason: str) -> Rejected:
    """The row of a sample that could be read but not labelled."""
    return Rejected(sample.line, reason, sample.id, sample.extra, getattr(sample, "gold", None))


def sha256_of(path: Path) -> str:
    """Of a file, or of a saved dataset's data. Raises InputError when it cannot be read."""
    return open_source(path).sha256()


class _Tally:
    """What rows tell, one by one. See `Survey`."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.kinds = ColumnKinds()
        self.rows = 0
        self.has_gold = False
        self.first_lines: dict[tuple[str, ...], int] = {}
        self.lone_line: int | None = None

    def add(self, number: int, row: dict[str, Any] | BadRow) -> None:
        self.rows += 1
        if isinstance(row, BadRow):
            return
        look = self._layout.look(row)
        self.first_lines.setdefault(look.fields, number)
        self.has_gold = self.has_gold or look.has_gold
        if self.lone_line is None and isinstance(look.responses, list) and len(look.responses) == 1:
            self.lone_line = number
        self.kinds.add(look.extra)


def _duplicate(sample: Sample) -> Rejected:
    return rejected(sample, f"duplicate id: {quoted(sample.id)} was used by an earlier row")
