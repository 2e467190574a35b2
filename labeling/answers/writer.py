"""Adds answers to those of a run: a part every few seconds of work, small ones joined when there are many."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.answers.answers import Answers, latest, merged
from preftree.labeling.answers.entry import Entry
from preftree.labeling.answers.part import Attempt, Part, copied_part, write_part
from preftree.labeling.data.folder import Folder, LocalFolder, folder_of

# A part ends at whichever comes first, at the end of a window. An upload takes longer than a file.
_SECONDS = 2.0
_SECONDS_OF_UPLOADS = 20.0
_LINES = 100_000
# More small parts than this are joined: a run that is resumed opens all of them. What is joined is no larger than what
# may be lost to one flipped bit.
_SMALL_PARTS = 64
_SMALL_BYTES = 1024 * 1024
DAMAGED = ".damaged"


class AnswerWriter:
    """Methods raise OutputError. What another process writes at the same time is left alone.

    Attributes:
        folder: where parts go.
        answers: those that are there, the new ones among them.
        seconds: spent in here.
        run: that parts are of.
        after: a sequence number that every new part is above.
    """

    def __init__(
        self,
        named: Path | Folder,
        run: str,
        answers: Answers,
        is_alone: bool = True,
        host: Mapping[str, Any] | None = None,
        seconds_between_parts: float | None = None,
    ) -> None:
        """Makes the folder if need be.

        Args:
            named: the folder, or its path.
            run: that parts are of, see `Part`.
            answers: those of the folder, as they were opened.
            is_alone: whether nobody else writes there, see `preftree.labeling.runs.lock`. Then damaged parts are set
                aside, with a message, small ones are joined, and drafts are removed.
            host: what this process runs on, for the record.
            seconds_between_parts: how long rows wait for a part at most (default: what suits the folder).
        """
        self.folder = folder_of(named)
        self.seconds = 0.0
        self.run = run
        self.after = 0
        self._host = host or {}
        usual = _SECONDS if isinstance(self.folder, LocalFolder) else _SECONDS_OF_UPLOADS
        self._between = usual if seconds_between_parts is None else seconds_between_parts
        self._pending: list[Entry] = []
        self._lines = 0
        self._last_commit = time.monotonic()
        self._name, self._started, self._committed = secrets.token_hex(4), time.time(), 0
        with self._guarded():
            self.folder.make()
            for place, problem in answers.damaged:
                _warn_of(place, problem, _set_aside(place) if is_alone else None)
            if is_alone:
                self.folder.remove_drafts()
            self.answers = Answers(_joined(answers.parts) if is_alone else answers.parts)
        self._before = len(self.answers.parts)

    def add(self, entries: Iterable[Entry]) -> None:
        """Finished rows. The next commit keeps them."""
        for entry in entries:
            self._pending.append(entry)
            self._lines += len(entry.scores) or 1

    def is_due(self) -> bool:
        """Whether to commit before the next window is waited for."""
        return self._lines >= _LINES or time.monotonic() - self._last_commit >= self._between

    def commit(self, usage: Any) -> None:
        """Writes what was added. usage: the scorer's running totals since this writer was opened, a dataclass."""
        if not self._pending:
            return
        with self._guarded():
            pending = sorted(self._pending, key=lambda entry: entry.number)
            done = self._committed + len(pending)
            totals = {**asdict(usage), "answers_seconds": self.seconds}
            attempt = Attempt(self._name, self._started, time.time(), done, totals, self._host)
            part = write_part(self.folder, self._next(), self.run, pending, [attempt])
            self._pending, self._lines, self._committed = [], 0, done
            parts = (*self.answers.parts, part)
            self.answers = Answers(parts)
            self.answers = Answers((*parts[: self._before], *_joined(parts[self._before :])))
        self._last_commit = time.monotonic()

    def take_over(self, parts: Iterable[Part]) -> None:
        """Copies parts of other directories."""
        with self._guarded():
            for part in parts:
                self.answers = Answers((*self.answers.parts, copied_part(part, self.folder, self._next())))

    def forget_attempt(self) -> None:
        """Takes back every row of this attempt."""
        self._pending, self._lines = [], 0
        with self._guarded():
            for part in self.answers.parts[self._before :]:
                self.folder.remove(part.name)
        self.answers = Answers(self.answers.parts[: self._before])

    def take_in(self) -> None:
        """Looks at what other processes have written meanwhile. It stays, whatever is forgotten from here on."""
        self.answers = Answers.open(self.folder, self.run)
        self._before = len(self.answers.parts)

    @property
    def last(self) -> int:
        """The highest sequence number of a part."""
        return max([self.after, *(part.sequence for part in self.answers.parts)])

    def _next(self) -> int:
        """The sequence number of the next part."""
        return 1 + self.last

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"cannot write to {self.folder}: {error.strerror or error}; answers that are there are kept: put "
                "that right (a full disk, a read-only directory) and run the same command again"
            ) from error
        finally:
            self.seconds += time.perf_counter() - started


def _joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """`parts`; where too many of them are small, with those that follow on one another as one. Raises OSError.

    The new part has the sequence number of the last that it replaces, so that what counted still counts. These are
    removed once it is in place: whoever is killed between leaves rows in two parts, and each still counts once.
    """
    if sum(part.size < _SMALL_BYTES for part in parts) <= _SMALL_PARTS:
        return tuple(parts)
    return tuple(_one_of(group) if len(group) > 1 else group[0] for group in _groups(parts))


def _groups(parts: Sequence[Part]) -> Iterator[list[Part]]:
    group: list[Part] = []
    size = 0
    for part in parts:
        if group and (part.size >= _SMALL_BYTES or size + part.size > _SMALL_BYTES):
            yield group
            group, size = [], 0
        group.append(part)
        size += part.size
    if group:
        yield group


def _one_of(group: Sequence[Part]) -> Part:
    last = group[-1]
    attempts = latest(attempt for part in group for attempt in part.attempts)
    made = write_part(last.folder, last.sequence, last.run, list(merged(group)), attempts)
    for part in group:
        if part.name != made.name:
            last.folder.remove(part.name)
    last.folder.sync()
    return made


def _set_aside(place: Path | str) -> str | None:
    """The name that a damaged file of this machine has from now on."""
    if isinstance(place, str):
        return None
    return place.replace(place.with_name(place.name + DAMAGED)).name


def _warn_of(place: Path | str, problem: str, now: str | None) -> None:
    renamed = f"it is {now} now, and " if now else ""
    logging.getLogger("preftree").warning(f"{place} is damaged: {problem}; {renamed}its rows are judged again")
