"""Where a run lives: whether one may begin or go on there, and what is there when it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.answers.answers import ANSWERS, Answers
from preftree.labeling.answers.host import host_of
from preftree.labeling.answers.part import PATTERN
from preftree.labeling.answers.writer import DAMAGED, AnswerWriter
from preftree.labeling.data.folder import DIRECTORY, FILE, MISSING, Folder, LocalFolder, folder_of, kind_of
from preftree.labeling.data.labels_file import LABELS, RUN
from preftree.labeling.methods.candidates import SAMPLE
from preftree.labeling.runs.lock import LOCK, RunLock
from preftree.labeling.runs.manifest import (
    ARITHMETIC,
    COMPLETE,
    DTYPE,
    RUNNING,
    answers_key,
    date,
    difference,
    write_record,
)
from preftree.labeling.runs.recorded import check_format, read_run

# What earlier versions kept answers in.
_OLD = [f"{name}{end}" for name in ("journal.sqlite", "journal.damaged.sqlite") for end in ("", "-wal", "-shm")]
_ARITHMETIC = "the processor and variables such as ATEN_CPU_CAPABILITY"
# Looked at in this order: another worker that begins meanwhile writes run.json before it makes what is listed above.
_KINDS = {LABELS: FILE, ANSWERS: DIRECTORY, _OLD[0]: FILE, RUN: FILE}
_WAYS_OUT = "name another --out, start a new run beside it with --force-new, or replace it with --overwrite"


class RunDirectory:
    """A context, in which this process may write a run, alone or as a worker. Raises OutputError where it may not.

    A directory is locked. Nothing locks a URL: several processes that write there judge rows twice at worst. What was
    made in a directory for a run that never began, or that ended before a row was finished, is removed on leaving.
    Processes that are not alone leave everything else as it is.

    Attributes:
        folder: a directory, or what a URL names.
        previous: the record of the run that is there, None for a new one.
    """

    def __init__(self, named: str | Path | Folder, overwrite: bool = False, worker: str | None = None) -> None:
        """worker: such as "2/3"."""
        self.folder = folder_of(named)
        self.previous: dict[str, Any] | None = None
        self._overwrite, self._worker = overwrite, worker
        self._lock: RunLock | None = None
        self._writer: AnswerWriter | None = None
        self._created: list[Path] = []

    def __enter__(self) -> RunDirectory:
        try:
            with self._guarded():
                if isinstance(self.folder, LocalFolder):
                    self._take(self.folder.path)
                self.previous = self._found()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    @property
    def is_alone(self) -> bool:
        """Whether nobody else writes there."""
        return self._lock is not None and self._lock.is_alone

    def take_alone(self) -> bool:
        """A worker is done: whether it has the directory to itself from now on, where anything locks at all."""
        return self._lock is None or self._lock.take_alone()

    def check(self, record: Mapping[str, Any]) -> None:
        """Raises OutputError where the run that is there is not this one, as far as `record` knows."""
        if self.previous and (said := difference(self.previous, record)):
            hint = ""
            if said.startswith(DTYPE):
                hint = f"resume it with --dtype {self.previous['scorer']['dtype']}, "
            elif said.startswith(ARITHMETIC):
                hint = f"this process computes other bits; resume it where {_ARITHMETIC} are as they were, "
            ways_out = _WAYS_OUT if self._worker is None else "name another --out, or give all workers the same options"
            if record["method"]["name"] == SAMPLE:
                ways_out = "name another --out, or start again with --overwrite"
            raise OutputError(f"{self.folder} holds another run: {said}; {hint}{ways_out}")

    def check_new(self) -> None:
        """Raises OutputError where a run is there already."""
        if self.previous is not None:
            raise OutputError(f"{self.folder} exists already; name another --out, or replace it with --overwrite")

    @cached_property
    def answers(self) -> Answers:
        """Those of the run that is there, as it was found. Raises OutputError."""
        return Answers() if self.previous is None else self.answers_now(self.previous)

    def answers_now(self, record: Mapping[str, Any]) -> Answers:
        """Those of the run with this record, whoever has written them. Raises OutputError."""
        return Answers.open(self.folder.child(ANSWERS), record["answers"])

    def begin(self, record: dict[str, Any]) -> AnswerWriter:
        """From here on the run exists: its record is written. What it replaces is gone.

        record: gets the key of its answers and the date, unless it has them.
        """
        with self._guarded():
            if self.previous is None and not self.is_alone:  # another process may have begun meanwhile
                self.previous = self._found()
            self.check(record)
            record.setdefault("started", (self.previous or {}).get("started") or date(time.time()))
            record.setdefault("answers", self.previous["answers"] if self.previous else answers_key(record))
            answers = self.answers
            if self._overwrite:
                self._remove()
            if self.is_alone:
                self.folder.remove_drafts()
            if self.previous is None and isinstance(self.folder, LocalFolder):
                self._created[:0] = [self.folder.path / name for name in (RUN, ANSWERS)]
            if self.is_alone or self.previous is None or self.previous["state"] != RUNNING:
                write_record(self.folder, record)
            self._writer = AnswerWriter(
                self.folder.child(ANSWERS), record["answers"], answers, self.is_alone, host_of(record)
            )
        return self._writer

    def finish(self, record: Mapping[str, Any]) -> None:
        """The labels are there; now their record may say so."""
        with self._guarded():
            write_record(self.folder, {**record, "state": COMPLETE})
        self._writer = None
        self._created = []

    def _take(self, path: Path) -> None:
        """Makes the directory and locks it."""
        if os.path.lexists(path) and not path.is_dir():
            raise OutputError(f"{path} is not a directory; name another --out")
        self._created = [parent for parent in (path, *path.parents) if not parent.exists()]
        path.mkdir(parents=True, exist_ok=True)
        is_new = kind_of(path / LOCK) == MISSING
        self._lock = RunLock(path, self._worker)
        if is_new:
            self._created.insert(0, path / LOCK)

    def _found(self) -> dict[str, Any] | None:
        """The record of the run that is there. Raises OutputError for what nobody asked to replace."""
        kinds = {name: self.folder.kind(name) for name in _KINDS}
        there = [name for name, kind in kinds.items() if kind != MISSING]
        for name in there:
            if kinds[name] != _KINDS[name]:
                raise OutputError(f"{self.folder.place(name)} is {kinds[name]}; remove it, or name another --out")
        if self._overwrite or not there:
            return None
        record = read_run(self.folder) if RUN in there else {}
        if "state" in record:
            check_format(self.folder, record)
            if ANSWERS in there or LABELS not in there:
                return record
        raise OutputError(f"{self.folder.place(there[0])} exists already; {_WAYS_OUT}")

    def _remove(self) -> None:
        """The files of runs, and nothing else that may be there."""
        for name in (RUN, LABELS, *_OLD):
            self.folder.remove(name)
        answers = self.folder.child(ANSWERS)
        for pattern in (PATTERN, PATTERN + DAMAGED):
            for name in answers.names(pattern):
                answers.remove(name)

    def _leave(self) -> None:
        lock = self._lock
        with suppress(OSError):  # a directory that holds something by now stays
            if lock is None or (self._came_to_nothing() and lock.take_alone() and self._came_to_nothing()):
                for path in self._created:
                    path.rmdir() if path.is_dir() else path.unlink()
        if lock is not None:
            lock.release()

    def _came_to_nothing(self) -> bool:
        """Whether there is something of this run to remove. Raises OSError."""
        if self._writer is None:
            return bool(self._created)
        return self.previous is None and not self.folder.child(ANSWERS).names(PATTERN)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot write to {self.folder}: {error.strerror or error}") from error


def free_sibling(named: str) -> str:
    """`named` if nothing is there, else the first of NAME-2, NAME-3, ... of which that is true."""
    base, mark, query = named.partition("?") if "://" in named else (named, "", "")
    base = base.rstrip("/") or base
    number, candidate = 1, base
    while _is_taken(f"{candidate}{mark}{query}"):
        number += 1
        candidate = f"{base}-{number}"
    return f"{candidate}{mark}{query}"


def _is_taken(named: str) -> bool:
    folder = folder_of(named)
    if isinstance(folder, LocalFolder):
        return os.path.lexists(folder.path)
    try:
        return any(folder.kind(name) != MISSING for name in _KINDS)
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror or error}") from error
