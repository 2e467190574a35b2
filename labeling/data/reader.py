"""Pairs from a JSONL file, in two streaming passes: `survey` learns the columns, `read` yields the rows.

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
from labeling.data.row import FIELDS, BadRow, parse, quoted, to_item
from labeling.types import Pair, Rejected


@dataclass(frozen=True)
class Survey:
    """What one look at the whole file tells. rows: lines that are not blank. columns: the extra ones."""

    path: Path
    rows: int
    sha256: str
    columns: dict[str, Kind]
    has_gold: bool


def survey(path: str | Path) -> Survey:
    """Counts rows, hashes the file, finds its extra columns; bad rows are no errors. Raises InputError."""
    path = Path(path)
    digest = hashlib.sha256()
    kinds = ColumnKinds()
    rows, has_gold = 0, False
    for _, line in numbered_lines(path, digest):
        rows += 1
        try:
            row = parse(line)
        except BadRow:
            continue
        has_gold = has_gold or "gold" in row
        kinds.add({name: value for name, value in row.items() if name not in FIELDS})
    if rows == 0:
        raise InputError(f"{path} holds no rows; it must have one JSON object on each line")
    return Survey(path, rows, digest.hexdigest(), kinds.resolve(), has_gold)


def read(path: str | Path, limit: int | None = None) -> Iterator[Pair | Rejected]:
    """Yields the first `limit` rows in file order, a bad one as Rejected with its line and reason.

    An id belongs to the first good row that has it; later ones are rejected.
    """
    seen: set[bytes] = set()
    for count, (number, line) in enumerate(numbered_lines(Path(path))):
        if count == limit:
            return
        try:
            item = to_item(parse(line), number)
        except BadRow as error:
            item = Rejected(number, str(error))
        if isinstance(item, Pair):
            digest = hashlib.blake2b(item.id.encode("utf-8"), digest_size=16).digest()
            if digest in seen:
                item = _duplicate(item)
            seen.add(digest)
        yield item


def rejected(pair: Pair, reason: str) -> Rejected:
    """The row of a pair that could be read but not labelled."""
    return Rejected(pair.line, reason, pair.id, pair.extra, pair.gold)


def sha256_of(path: Path) -> str:
    """Raises InputError when the file cannot be read."""
    digest = hashlib.sha256()
    for _ in numbered_lines(path, digest):
        pass
    return digest.hexdigest()


def _duplicate(pair: Pair) -> Rejected:
    return rejected(pair, f"duplicate id: {quoted(pair.id)} was used by an earlier row")
