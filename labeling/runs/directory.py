"""Where a run lives: whether one may begin or go on there, and what is there when it ends."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.data.atomic import remove_drafts
from preftree.labeling.data.labels_file import LABELS, RUN
from preftree.labeling.runs.journal import JOURNAL, Journal, holds
from preftree.labeling.runs.lock import LOCK, RunLock
from preftree.labeling.runs.manifest import COMPLETE, DTYPE, difference, write_record
from preftree.labeling.runs.recorded import read_run
from preftree.labeling.runs.salvage import DAMAGED, problem_of, salvage
from preftree.labeling.terminal import count

_WAYS_OUT = "name another --out, start again beside it with --force-new, or in its place with --overwrite"


class RunDirectory:
    """A context, in which this process has the directory to itself. Raises OutputError where it may not.

    previous: the record of the run that is there, None for a new one. What was made for a run that never began, or
    that ended before a row was finished, is removed on leaving.
    """

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        self.path = path
        self.previous: dict[str, Any] | None = None
        self._overwrite = overwrite
        self._lock: RunLock | None = None
        self._journal: Journal | None = None
        self._created: list[Path] = []

    def __enter__(self) -> RunDirectory:
        if os.path.lexists(self.path) and not self.path.is_dir():
            raise OutputError(f"{self.path} is not a directory; name another --out")
        try:
            with self._guarded():
                self._created = [path for path in (self.path, *self.path.parents) if not path.exists()]
                self.path.mkdir(parents=True, exist_ok=True)
                if not (self.path / LOCK).exists():
                    self._created.insert(0, self.path / LOCK)
                self._lock = RunLock(self.path)
                self.previous = self._found()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def check(self, record: Mapping[str, Any]) -> None:
        """Raises OutputError where the run that is there is not this one, as far as `record` knows."""
        if self.previous and (said := difference(self.previous, record)):
            resume = f"resume it with --dtype {self.previous['scorer']['dtype']}, " if said.startswith(DTYPE) else ""
            raise OutputError(f"{self.path} holds another run: {said}; {resume}{_WAYS_OUT}")

    def remembers(self, rows: range) -> bool:
        """Whether the journal that is there holds all these rows, whole."""
        path = self.path / JOURNAL
        try:
            return path.exists() and problem_of(path) is None and holds(path, rows)
        except sqlite3.Error:
            return False

    def begin(self, record: Mapping[str, Any]) -> Journal:
        """From here on the run exists: its record is written, its journal open. What it replaces is gone."""
        self.check(record)
        with self._guarded():
            remove_drafts(self.path)
            if self.previous is None:
                for name in (RUN, LABELS, DAMAGED, JOURNAL):
                    for end in ("", "-wal", "-shm"):
                        (self.path / f"{name}{end}").unlink(missing_ok=True)
            write_record(self.path, record)
            self._journal = self._opened_journal()
        return self._journal

    def finish(self, record: Mapping[str, Any]) -> None:
        """The labels are there; now their record may say so."""
        assert self._journal is not None
        with self._guarded():
            write_record(self.path, {**record, "state": COMPLETE})
            self._journal.rest()
            self._journal = None
            self._created = []

    def _found(self) -> dict[str, Any] | None:
        """The record of the run that is there. Raises OutputError for what nobody asked to replace."""
        there = [name for name in (LABELS, RUN, JOURNAL) if os.path.lexists(self.path / name)]
        for name in there:
            if (self.path / name).is_dir():
                raise OutputError(f"{self.path / name} is a directory; name another --out")
        if self._overwrite or not there:
            return None
        if RUN in there and (JOURNAL in there or LABELS not in there):
            record = read_run(self.path / RUN)
            if "state" in record:
                return record
        raise OutputError(f"{self.path / there[0]} exists already; {_WAYS_OUT}")

    def _opened_journal(self) -> Journal:
        path = self.path / JOURNAL
        if path.exists():
            try:
                problem = problem_of(path)
            except sqlite3.Error as error:
                raise OutputError(f"cannot read {path}: {error}") from error
            if problem is not None:
                kept = salvage(path)
                said = f"{path} is damaged ({problem}): {count(kept, 'row')} could be kept, the others are asked again"
                logging.getLogger("preftree").warning(f"{said}; the damaged file is {DAMAGED} now")
        return Journal(path)

    def _leave(self) -> None:
        if self._journal is not None:
            if self._is_empty(self._journal):
                self._created[:0] = [self.path / name for name in (RUN, JOURNAL)]
            else:
                self._created = []
            self._journal.close()
        with suppress(OSError):  # a directory that holds something by now stays
            for path in self._created:
                path.rmdir() if path.is_dir() else path.unlink()
        if self._lock is not None:
            self._lock.release()

    def _is_empty(self, journal: Journal) -> bool:
        try:
            return self.previous is None and journal.count() == 0
        except OutputError:
            return False

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot write to {self.path}: {error.strerror or error}") from error


def free_sibling(path: Path) -> Path:
    """`path` if nothing is there, else the first of path-2, path-3, ... of which that is true."""
    number = 1
    candidate = path
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
