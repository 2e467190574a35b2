"""Samples from a file or a saved dataset, in streaming passes: `survey` learns the columns, `read` yields the rows.

Memory does not grow with the file, but for the ids that several rows have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from preftree.labeling.data.columns import ColumnKinds, Kind
from preftree.labeling.data.formats import open_source
from preftree.labeling.data.layout import Layout, no_rows, recognise
from preftree.labeling.data.mapping import column_mapping
from preftree.labeling.data.repeats import FirstUses, Hashes
from preftree.labeling.data.row import SEVERAL_FIELDS, BadRow, quoted, rivals
from preftree.labeling.data.source import Source
from preftree.labeling.types import Rejected, Sample


@dataclass(frozen=True)
class Survey:
    """What one look at the whole input tells. rows: those that are not blank. columns: the extra ones.

    first_lines: for each kind of sample that a row looks like, by its columns, the first line with one. lone_line: the
    first line whose list of responses has one entry. repeated: see `preftree.labeling.data.repeats`. about: format and
    recognised columns, for people.
    """

    path: Path
    rows: int
    sha256: str
    columns: dict[str, Kind]
    has_gold: bool
    first_lines: dict[tuple[str, ...], int]
    lone_line: int | None
    repeated: frozenset[int] = frozenset()
    about: str = ""


def survey(path: str | Path, mapping: Sequence[str] = ()) -> Survey:
    """Counts rows, hashes the file, finds its extra columns; bad rows are no errors. Raises InputError.

    mapping: "FIELD=COLUMN" texts, see `preftree.labeling.data.mapping`.
    """
    return survey_source(open_source(Path(path)), mapping)


def survey_source(source: Source, mapping: Sequence[str] = ()) -> Survey:
    """As `survey`, for what is opened already."""
    layout = recognise(source, column_mapping(mapping))
    kinds = source.kinds()
    uniform = kinds is not None and not rivals(kinds)
    with closing(Hashes()) as hashes:
        tally = _Tally(layout, hashes)
        with closing(source.rows()) as rows:
            for number, row in rows:
                tally.add(number, row)
                if uniform and SEVERAL_FIELDS not in tally.first_lines and tally.first_lines:
                    break  # the table's other rows tell nothing more but their ids
        if uniform and kinds:
            with closing(source.rows(layout.id_columns(kinds))) as rows:
                for number, row in islice(rows, tally.rows, None):
                    tally.add_identity(number, row)
        repeated = hashes.repeated()
    if tally.rows == 0:
        raise no_rows(source.path)
    return Survey(
        path=source.path,
        rows=tally.rows,
        sha256=source.sha256(),
        columns=layout.kinds(kinds) if uniform and kinds else tally.kinds.resolve(),
        has_gold=tally.has_gold,
        first_lines=tally.first_lines,
        lone_line=tally.lone_line,
        repeated=repeated,
        about=f"{source.format}, {layout.about}",
    )


def read(
    path: str | Path, limit: int | None = None, mapping: Sequence[str] = (), repeated: frozenset[int] = frozenset()
) -> Iterator[Sample | Rejected]:
    """The first `limit` rows in file order, a bad one as Rejected with its line and reason.

    mapping: see `survey`. repeated: that of the survey; of the ids that it names each belongs to the first good row
    that has it, and later rows are rejected. Without it, ids are not compared.
    """
    return read_source(open_source(Path(path)), limit, mapping, repeated)


def read_source(
    source: Source, limit: int | None = None, mapping: Sequence[str] = (), repeated: frozenset[int] = frozenset()
) -> Iterator[Sample | Rejected]:
    """As `read`, for what is opened already."""
    layout = recognise(source, column_mapping(mapping))
    uses = FirstUses(repeated)
    with closing(source.rows()) as rows:
        for number, row in islice(rows, limit):
            item = Rejected(number, str(row)) if isinstance(row, BadRow) else layout.item(row, number)
            if repeated and not isinstance(item, Rejected) and not uses.add(item.id):
                item = _duplicate(item)
            yield item


def rejected(sample: Sample, reason: str) -> Rejected:
    """The row of a sample that could be read but not labelled."""
    return Rejected(sample.line, reason, sample.id, sample.extra, getattr(sample, "gold", None))


def sha256_of(path: Path) -> str:
    """Of a file, or of a saved dataset's data. Raises InputError when it cannot be read."""
    return open_source(path).sha256()


class _Tally:
    """What rows tell, one by one. See `Survey`."""

    def __init__(self, layout: Layout, hashes: Hashes) -> None:
        """hashes: where ids go."""
        self._layout = layout
        self._hashes = hashes
        self.kinds = ColumnKinds()
        self.rows = 0
        self.has_gold = False
        self.first_lines: dict[tuple[str, ...], int] = {}
        self.lone_line: int | None = None

    def add(self, number: int, row: dict[str, Any] | BadRow) -> None:
        self.add_identity(number, row)
        if isinstance(row, BadRow):
            return
        look = self._layout.look(row)
        self.first_lines.setdefault(look.fields, number)
        self.has_gold = self.has_gold or look.has_gold
        if self.lone_line is None and isinstance(look.responses, list) and len(look.responses) == 1:
            self.lone_line = number
        self.kinds.add(look.extra)

    def add_identity(self, number: int, row: dict[str, Any] | BadRow) -> None:
        """Counts a row, which may lack all but the columns of its id."""
        self.rows += 1
        if not isinstance(row, BadRow) and (identity := self._layout.identity(row, number)) is not None:
            self._hashes.add(identity)


def _duplicate(sample: Sample) -> Rejected:
    return rejected(sample, f"duplicate id: {quoted(sample.id)} was used by an earlier row")
