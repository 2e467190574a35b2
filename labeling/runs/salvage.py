"""A journal whose structure is damaged: every row that can still be read moves into a new one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from preftree.labeling.runs.journal import READ, Attempt, Entry, Journal, attempts, connected, has_our_tables

DAMAGED = "journal.damaged.sqlite"

_FARTHEST_LEAP = 2**40


def problem_of(path: Path) -> str | None:
    """What is wrong with the structure of a journal; None where it is whole.

    Ends what a killed process has left half done, for which SQLite must write. Raises sqlite3.Error where the journal
    cannot be read for another reason.
    """
    try:
        with closing(connected(path)) as database:
            [(said,)] = database.execute("PRAGMA quick_check(1)")
            if said != b"ok":
                return str(said, "utf-8", "replace")
            return None if has_our_tables(database) else "its tables are not those of a journal"
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        return str(error)


def salvage(path: Path) -> int:
    """Puts a new journal in the place of a damaged one, which becomes `DAMAGED`; returns how many rows were saved.

    Raises OutputError and OSError.
    """
    damaged = path.with_name(DAMAGED)
    for end in ("", "-wal", "-shm"):
        old, new = (one.with_name(one.name + end) for one in (path, damaged))
        new.unlink(missing_ok=True)
        if old.exists():
            old.rename(new)
    journal = Journal(path)
    journal.take_over(_whole_entries(damaged), _attempts(damaged))
    kept = journal.count()
    journal.rest()
    return kept


def _whole_entries(path: Path) -> Iterator[Entry]:
    """Every entry that can be read and that has its checksum; over what cannot be read in ever longer leaps."""
    number, leap = -1, 1
    while leap < _FARTHEST_LEAP:
        try:
            with closing(connected(path, read_only=True)) as database:
                for values in database.execute(READ, (number, -1)):
                    entry = Entry(*values)
                    if entry.is_whole:
                        yield entry
                    number, leap = max(number, entry.number), 1
                return
        except sqlite3.DatabaseError as error:
            if _code(error) == sqlite3.SQLITE_ERROR:  # a table or a column has lost its name
                return
            if not _is_damage(error):
                raise
            number += leap
            leap *= 2


def _attempts(path: Path) -> list[Attempt]:
    try:
        with closing(connected(path, read_only=True)) as database:
            return attempts(database)
    except sqlite3.DatabaseError:
        return []


def _is_damage(error: sqlite3.Error) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: sqlite3.Error) -> int:
    """The primary code; 0 where the error is not SQLite's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
