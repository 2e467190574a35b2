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
from preftree.labeling.answers.part import PATTERN
from preftree.labeling.answers.writer import DAMAGED, AnswerWriter
from preftree.labeling.data.atomic import remove_drafts
from preftree.labeling.data.labels_file import LABELS, RUN
from preftree.labeling.runs.lock import LOCK, RunLock
from preftree.labeling.runs.manifest import ARITHMETIC, COMPLETE, DTYPE, answers_key, date, difference, write_record
from preftree.labeling.runs.recorded import check_format, read_run

# What earlier versions kept answers in.
_OLD = [f"{name}{end}" for name in ("journal.sqlite", "journal.damaged.sqlite") for end in ("", "-wal", "-shm")]
_ARITHMETIC = "the processor and variables such as ATEN_CPU_CAPABILITY"
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
        self._writer: AnswerWriter | None = None
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
            hint = ""
            if said.startswith(DTYPE):
                hint = f"resume it with --dtype {self.previous['scorer']['dtype']}, "
            elif said.startswith(ARITHMETIC):
                hint = f"this process computes other bits; resume it where {_ARITHMETIC} are as they were, "
            raise OutputError(f"{self.path} holds another run: {said}; {hint}{_WAYS_OUT}")

    def check_new(self) -> None:
        """Raises OutputError where a run is there already."""
        if self.previous is not None:
            raise OutputError(f"{self.path} exists already; name another --out, or replace it with --overwrite")

    @cached_property
    def answers(self) -> Answers:
        """Those of the run that is there, as it was found. Raises OutputError."""
        return Answers() if self.previous is None else Answers.open(self.path / ANSWERS, self.previous["answers"])

    def begin(self, record: dict[str, Any]) -> AnswerWriter:
        """From here on the run exists: its record is written. What it replaces is gone.

        record: gets the key of its answers and the date, unless it has them.
        """
        self.check(record)
        record.setdefault("started", (self.previous or {}).get("started") or date(time.time()))
        record.setdefault("answers", self.previous["answers"] if self.previous else answers_key(record))
        answers = self.answers
        with self._guarded():
            remove_drafts(self.path)
            if self.previous is None:
                self._remove()
            write_record(self.path, record)
            self._writer = AnswerWriter(self.path / ANSWERS, record["answers"], answers)
        return self._writer

    def finish(self, record: Mapping[str, Any]) -> None:
        """The labels are there; now their record may say so."""
        with self._guarded():
            write_record(self.path, {**record, "state": COMPLETE})
        self._writer = None
        self._created = []

    def _found(self) -> dict[str, Any] | None:
        """The record of the run that is there. Raises OutputError for what nobody asked to replace."""
        there = [name for name in (LABELS, RUN, ANSWERS, _OLD[0]) if os.path.lexists(self.path / name)]
        for name in there:
            if (self.path / name).is_dir() != (name == ANSWERS):
                kind = "a file" if name == ANSWERS else "a directory"
                raise OutputError(f"{self.path / name} is {kind}; name another --out")
        if self._overwrite or not there:
            return None
        record = read_run(self.path / RUN) if RUN in there else {}
        if "state" in record:
            check_format(self.path, record)
            if ANSWERS in there or LABELS not in there:
                return record
        raise OutputError(f"{self.path / there[0]} exists already; {_WAYS_OUT}")

    def _remove(self) -> None:
        """The files of runs, and nothing else that may be there."""
        for name in (RUN, LABELS, *_OLD):
            (self.path / name).unlink(missing_ok=True)
        answers = self.path / ANSWERS
        for pattern in (PATTERN, PATTERN + DAMAGED):
            for path in answers.glob(pattern):
                path.unlink()

    def _leave(self) -> None:
        if self._writer is not None:
            if self.previous is None and not self._writer.answers.parts:
                self._created[:0] = [self.path / name for name in (RUN, ANSWERS)]
            else:
                self._created = []
        with suppress(OSError):  # a directory that holds something by now stays
            for path in self._created:
                path.rmdir() if path.is_dir() else path.unlink()
        if self._lock is not None:
            self._lock.release()

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
