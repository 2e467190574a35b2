"""Samples from a JSONL file, in two streaming passes: `survey` learns the columns, `read` yields the rows.

Memory does not grow with the file, but for a 16-byte digest of every id (about 100 bytes a row, in a set):
without it a duplicate far down could not be told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InputError
from labeling.data.columns import ColumnKinds, Kind
from labeling.data.lines import numbered_lines
from labeling.data.row import SEVERAL_FIELDS, BadRow, fields_of, parse, quoted, to_item
from labeling.types import Rejected, Sample


@dataclass(frozen=True)
class Survey:
    """What one look at the whole file tells. rows: lines that are not blank. columns: the extra ones.

    first_lines: for each kind of sample that a row looks like, by its columns, the first line with one. lone_line: the
    first line whose list of responses has one entry.
    """

    path: Path
    rows: int
    sha256: str
    columns: dict[str, Kind]
    has_gold: bool
    first_lines: dict[tuple[str, ...], int]
    lone_line: int | None


def survey(path: str | Path) -> Survey:
    """Counts rows, hashes the file, finds its extra columns; bad rows are no errors. Raises InputError."""
    path = Path(path)
    digest = hashlib.sha256()
    kinds = ColumnKinds()
    rows, has_gold = 0, False
    first_lines: dict[tuple[str, ...], int] = {}
    lone_line = None
    for number, line in numbered_lines(path, digest):
        rows += 1
        try:
            row = parse(line)
        except BadRow:
            continue
        own = fields_of(row)
        first_lines.setdefault(own, number)
        if lone_line is None and own is SEVERAL_FIELDS and isinstance(row["responses"], list):
            lone_line = number if len(row["responses"]) == 1 else None
        has_gold = has_gold or ("gold" in own and "gold" in row)
        kinds.add({name: value for name, value in row.items() if name not in own})
    if rows == 0:
        raise InputError(f"{path} holds no rows; it must have one JSON object on each line")
    return Survey(path, rows, digest.hexdigest(), kinds.resolve(), has_gold, first_lines, lone_line)


def read(path: str | Path, limit: int | None = None) -> Iterator[Sample | Rejected]:
    """Yields the first `limit` rows in file order, a bad one as Rejected with its line and reason.

    An id belongs to the first good row that has it; later ones are rejected.
    """
    seen: set[bytes] = set()
    for count, (number, line) in enumerate(numbered_lines(Path(path))):
        if count == limit:
            return
        try:
            item: Sample | Rejected = to_item(parse(line), number)
        except BadRow as error:
            item = Rejected(number, str(error))
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
    """Raises InputError when the file cannot be read."""
    digest = hashlib.sha256()
    for _ in numbered_lines(path, digest):
        pass
    return digest.hexdigest()


def _duplicate(sample: Sample) -> Rejected:
    return rejected(sample, f"duplicate id: {quoted(sample.id)} was used by an earlier row")
