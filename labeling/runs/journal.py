"""The journal of a run: every finished row, in an SQLite file, committed as it comes.

A row is kept by its number, its place in the input from 0, with its id, and with what the model answered or why the row
was rejected; labels are made again from the answers. Each has a checksum, so that one flipped bit costs one row.

The file is in WAL mode with synchronous=FULL: each commit is on disk before the next window is scored. A commit comes
at most once a second unless windows are slower than that, so an fsync each costs little, and a power cut costs no more
than a kill does.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from preftree.engine.errors import OutputError
from preftree.labeling.pipeline import Labelled
from preftree.labeling.runs.answers import packed
from preftree.labeling.types import Rejected

JOURNAL = "journal.sqlite"

# A transaction ends at whichever comes first, at the end of a window.
_SECONDS = 1.0
_ROWS = 20_000
_READ_ROWS = 1000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows (
    number INTEGER PRIMARY KEY, id BLOB, reason BLOB, answers BLOB, checksum INTEGER NOT NULL, attempt INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS attempts (
    attempt INTEGER PRIMARY KEY, started REAL NOT NULL, committed REAL NOT NULL, rows INTEGER NOT NULL,
    usage TEXT NOT NULL, checksum INTEGER NOT NULL
);
"""


class Entry(NamedTuple):
    """A row of the journal, as it is stored. Either `reason` or `answers` is None.

    id, reason: as UTF-8. answers: `packed`.
    """

    number: int
    id: bytes | None
    reason: bytes | None
    answers: bytes | None
    checksum: int

    @property
    def is_whole(self) -> bool:
        try:
            return self.checksum == _checksum(*self[:4])
        except TypeError:  # a flipped bit has made a number of it
            return False


@dataclass(frozen=True)
class Attempt:
    """A process that worked on the run. started, committed: in seconds since 1970. rows: that it finished.

    usage: running totals by name.
    """

    started: float
    committed: float
    rows: int
    usage: dict[str, float]


class Journal:
    """Open for one process at a time, see `preftree.labeling.runs.lock`. Methods raise OutputError.

    seconds: spent in here.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file, or makes one."""
        self.path = path
        self.seconds = 0.0
        self._pending: list[tuple[Any, ...]] = []
        self._last_commit = time.monotonic()
        self._attempt: int | None = None
        self._committed = 0
        self._opened = time.time()
        with self._guarded():
            self._database = connected(path)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_SCHEMA)

    def add(self, number: int, window: Iterable[Labelled]) -> None:
        """Finished rows that follow on one another, the first of them being `number`. The next commit keeps them."""
        started = time.perf_counter()
        for place, (item, _, scores, recalled) in enumerate(window, number):
            if not recalled:
                identity = None if item.id is None else item.id.encode()
                reason = item.reason.encode() if isinstance(item, Rejected) else None
                answers = packed(scores) if reason is None else None
                checksum = _checksum(place, identity, reason, answers)
                self._pending.append((place, identity, reason, answers, checksum))
        self.seconds += time.perf_counter() - started

    def is_due(self) -> bool:
        """Whether to commit before the next window is waited for."""
        return len(self._pending) >= _ROWS or time.monotonic() - self._last_commit >= _SECONDS

    def commit(self, usage: Any) -> None:
        """Rows added so far, with the scorer's running totals since this journal was opened, a dataclass of numbers."""
        if not self._pending:
            return
        with self._guarded():
            self._begin()
            if self._attempt is None:
                values = _of_attempt(Attempt(self._opened, self._opened, 0, {}))
                self._attempt = self._database.execute(_NEW_ATTEMPT, values).lastrowid
            rows = ((*values, self._attempt) for values in self._pending)
            self._database.executemany(_WRITE, rows)
            done = self._committed + len(self._pending)
            totals = {**asdict(usage), "journal_seconds": self.seconds}
            values = _of_attempt(Attempt(self._opened, time.time(), done, totals))
            self._database.execute(_NOTE_ATTEMPT, (*values, self._attempt))
            self._database.execute("COMMIT")
        self._pending, self._committed = [], done
        self._last_commit = time.monotonic()

    def take_over(self, entries: Iterable[Entry], attempts: Iterable[Attempt]) -> None:
        """Copies whole entries of other journals, and their attempts, in one transaction."""
        with self._guarded():
            self._begin()
            self._database.executemany(_WRITE, ((*entry, _NO_ATTEMPT) for entry in entries))
            self._database.executemany(_NEW_ATTEMPT, map(_of_attempt, attempts))
            self._database.execute("COMMIT")

    def count(self) -> int:
        """Rows, damaged ones among them."""
        with self._guarded():
            return counts(self._database)[0]

    def usage(self) -> dict[str, float]:
        """Of all attempts together, by name."""
        with self._guarded():
            sums: Counter[str] = Counter()
            for attempt in attempts(self._database):
                sums.update(attempt.usage)
            return dict(sums)

    def forget_attempt(self) -> None:
        """Takes back every row of this attempt."""
        self._pending = []
        with self._guarded():
            self._begin()
            self._database.execute("DELETE FROM rows WHERE attempt = ?", (self._attempt,))
            self._database.execute("COMMIT")

    def rest(self) -> None:
        """Nothing more will come: the file becomes one that can be read without its neighbours and without writing."""
        with self._guarded():
            self._database.execute("PRAGMA journal_mode = DELETE")
            self._database.close()

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._database.close()

    def _begin(self) -> None:
        if self._database.in_transaction:  # an earlier commit failed half way
            self._database.execute("ROLLBACK")
        self._database.execute("BEGIN IMMEDIATE")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise OutputError(
                f"cannot write {self.path}: {error}; rows that it holds are kept: put that right (a full disk, "
                "a read-only directory) and run the same command again"
            ) from error
        finally:
            self.seconds += time.perf_counter() - started


READ = "SELECT number, id, reason, answers, checksum FROM rows WHERE number > ? ORDER BY number LIMIT ?"
_WRITE = "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?, ?)"
_NEW_ATTEMPT = "INSERT INTO attempts VALUES (NULL, ?, ?, ?, ?, ?)"
_NOTE_ATTEMPT = "UPDATE attempts SET started = ?, committed = ?, rows = ?, usage = ?, checksum = ? WHERE attempt = ?"
# Of rows that came out of another journal.
_NO_ATTEMPT = 0


def entries(path: Path) -> Iterator[Entry]:
    """All rows in the order of the input, damaged ones too. Another connection may add rows meanwhile.

    Raises sqlite3.Error.
    """
    number = -1
    with closing(connected(path, read_only=True)) as database:
        while True:
            found = [Entry(*row) for row in database.execute(READ, (number, _READ_ROWS))]
            yield from found
            if len(found) < _READ_ROWS:
                return
            number = found[-1].number


def holds(path: Path, numbers: range) -> bool:
    """Whether all these rows are in a journal, none of them damaged. Reads all of them. Raises sqlite3.Error."""
    found = (entry.number for entry in entries(path) if entry.is_whole)
    return all(number == other for number, other in zip_longest(numbers, found))


def connected(path: Path, read_only: bool = False) -> sqlite3.Connection:
    """Texts, too, come as bytes: a damaged one may not be UTF-8. Transactions are begun and ended by hand."""
    mode = "ro" if read_only else "rwc"
    where = f"{path.absolute().as_uri()}?mode={mode}"
    database = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False)
    database.text_factory = bytes
    return database


def counts(database: sqlite3.Connection) -> tuple[int, int]:
    """Rows, and how many of them were rejected."""
    rows, rejected = database.execute("SELECT count(*), count(reason) FROM rows").fetchone()
    return rows, rejected


def attempts(database: sqlite3.Connection) -> list[Attempt]:
    """In their order, without damaged ones."""
    found = []
    for started, committed, rows, usage, checksum in database.execute(_READ_ATTEMPTS):
        if isinstance(usage, bytes) and checksum == _checksum(rows, usage):
            found.append(Attempt(started, committed, rows, json.loads(usage)))
    return found


_READ_ATTEMPTS = "SELECT started, committed, rows, usage, checksum FROM attempts ORDER BY attempt"


def has_our_tables(database: sqlite3.Connection) -> bool:
    """Whether it has no others; a process that was killed while it made them leaves fewer."""
    ours = _SCHEMA.replace("IF NOT EXISTS ", "").encode()
    return all(sql and sql in ours for (sql,) in database.execute("SELECT sql FROM sqlite_schema"))


def _of_attempt(attempt: Attempt) -> tuple[Any, ...]:
    usage = json.dumps(attempt.usage)
    return attempt.started, attempt.committed, attempt.rows, usage, _checksum(attempt.rows, usage.encode())


def _checksum(number: int, identity: bytes | None, reason: bytes | None = None, answers: bytes | None = None) -> int:
    return crc32(b"%d\0%b\0%b\0%b" % (number, identity or b"", reason or b"", answers or b""))
