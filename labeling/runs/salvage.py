"""A journal whose structure is damaged: every row that can still be read moves into a new one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path

from preftree.labeling.runs.journal import Attempt, Entry, Journal, attempts, connected, schema, schema_as_made

DAMAGED = "journal.damaged.sqlite"

_PAGE_BYTES = 4096
# Of the first page: a copy of the change counter, beside which the file's size in pages counts; with another one it
# is taken from the file itself.
_SIZE_VALID_FOR = 92
# Of the first page: versions of the file format for writing and for reading.
_FORMAT = slice(18, 20)
_SIDE_FILES = ("-wal", "-shm")
_FARTHEST_LEAP = 2**40


def problem_of(path: Path) -> str | None:
    """What is wrong with the structure of a journal; None where it is whole.

    Raises sqlite3.Error where it cannot be read for another reason.
    """
    try:
        with closing(connected(path, read_only=True)) as database:
            [(said,)] = database.execute("PRAGMA quick_check(1)")
            if said != b"ok":
                return str(said, "utf-8", "replace")
            return None if schema(database) == schema_as_made() else "its tables are not those of a journal"
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return str(error)


def is_damage(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: sqlite3.Error) -> int:
    """The primary code; 0 where the error is not SQLite's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def salvage(path: Path) -> int:
    """Puts a new journal in the place of a damaged one, which becomes `DAMAGED`; returns how many rows were saved.

    Raises OutputError and OSError. Whatever moment this ends at, the next call finds a journal to go on with.
    """
    damaged, fresh = path.with_name(DAMAGED), path.with_name(f".{path.name}.tmp")
    _remove(damaged)
    _remove(fresh)
    shutil.copyfile(path, damaged)
    with suppress(FileNotFoundError):
        shutil.copyfile(f"{path}-wal", f"{damaged}-wal")
    Journal(fresh).rest()
    first_page = fresh.read_bytes()[:_PAGE_BYTES]
    journal = Journal(fresh)
    entries = _whole_entries(damaged)
    first = next(entries, None)
    if first is None:  # nothing at all can be read where the first page is broken, and every journal's is the same
        _replace_first_page(damaged, first_page)
        entries = _whole_entries(damaged)
        first = next(entries, None)
    if first is not None:
        journal.take_over(chain([first], entries), _attempts(damaged))
    kept = journal.count()
    journal.rest()
    for end in _SIDE_FILES:  # they would be taken for those of the new file
        path.with_name(path.name + end).unlink(missing_ok=True)
    fresh.replace(path)
    return kept


def _whole_entries(path: Path) -> Iterator[Entry]:
    """Every entry that can be read and that has its checksum; over what cannot be read in ever longer leaps."""
    number, leap = -1, 1
    while leap < _FARTHEST_LEAP:
        try:
            with closing(connected(path, read_only=True)) as database:
                for values in database.execute(_READ_ALL, (number,)):
                    entry = Entry(*values)
                    if entry.is_whole:
                        yield entry
                    number, leap = max(number, entry.number), 1
                return
        except sqlite3.DatabaseError as error:
            if _code(error) == sqlite3.SQLITE_ERROR:  # a table or a column has lost its name
                return
            if not is_damage(error):
                raise
            number += leap
            leap *= 2


_READ_ALL = "SELECT number, id, reason, answers, checksum FROM rows WHERE number > ? ORDER BY number"


def _attempts(path: Path) -> list[Attempt]:
    try:
        with closing(connected(path, read_only=True)) as database:
            return attempts(database)
    except sqlite3.DatabaseError:
        return []


def _replace_first_page(path: Path, page: bytes) -> None:
    patched = bytearray(page)
    patched[_SIZE_VALID_FOR] ^= 0xFF
    patched[_FORMAT] = b"\x02\x02"  # with a write-ahead log, which may lie beside it
    with path.open("r+b") as file:
        file.write(patched)


def _remove(path: Path) -> None:
    for end in ("", *_SIDE_FILES):
        path.with_name(path.name + end).unlink(missing_ok=True)
