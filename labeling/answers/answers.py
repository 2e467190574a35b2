"""The answers of a run, as far as they are there: whole parts of its directory, read as one."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.answers.entry import Entry
from preftree.labeling.answers.part import PATTERN, Attempt, DamagedPart, Part, open_part

ANSWERS = "answers"
MISSING, ANSWERED, REJECTED = 0, 1, 2
_LOOKS = 5


@dataclass(frozen=True)
class Answers:
    """What was in a directory when it was opened.

    Attributes:
        parts: in the order of their sequence numbers.
        damaged: files that are no parts any more, each with what is wrong with it.
    """

    parts: tuple[Part, ...] = ()
    damaged: tuple[tuple[Path, str], ...] = ()

    @classmethod
    def open(cls, directory: Path, run: str | None = None) -> Answers:
        """Reads and checks every part; empty where there is no such directory.

        run: that parts must be of. Raises OutputError.
        """
        try:
            answers = cls._opened(directory)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise OutputError(f"cannot read {directory}: {error.strerror or error}") from error
        for part in answers.parts:
            if run is not None and part.run != run:
                raise OutputError(f"{part.path} belongs to another run; move it out of {directory}")
        return answers

    @classmethod
    def _opened(cls, directory: Path) -> Answers:
        parts, damaged = [], []
        for path in sorted(directory.glob(PATTERN)):
            try:
                parts.append(open_part(path))
            except DamagedPart as error:
                damaged.append((path, str(error)))
        return cls(tuple(sorted(parts, key=lambda part: part.sequence)), tuple(damaged))

    def states(self, rows: Any) -> Any:
        """A NumPy array with MISSING, ANSWERED or REJECTED for each of these rows.

        rows: their numbers, ascending: a NumPy array.
        """
        import numpy as np

        states = np.full(len(rows), MISSING, np.uint8)
        for part in self.parts:
            numbers, rejected, _ = part.states()
            places = np.searchsorted(rows, numbers)
            wanted = rows.take(places, mode="clip") == numbers
            states[places[wanted]] = np.where(rejected[wanted], REJECTED, ANSWERED)
        return states

    def texts(self, rows: Any) -> Any:
        """A NumPy array of digests, see `Entry.text`; 0 for a row that has no answers or could not be read."""
        import numpy as np

        texts = np.zeros(len(rows), np.int64)
        for part in self.parts:
            numbers, _, digests = part.states()
            places = np.searchsorted(rows, numbers)
            wanted = rows.take(places, mode="clip") == numbers
            texts[places[wanted]] = digests[wanted]
        return texts

    def entries(self) -> Iterator[Entry]:
        """Every row once, in the order of their numbers; a few parts are open at a time.

        Raises OutputError, and FileNotFoundError where another process has joined parts meanwhile.
        """
        try:
            yield from merged(self.parts)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise OutputError(f"cannot read answers: {error}") from error

    def attempts(self) -> list[Attempt]:
        """In the order in which they began."""
        return latest(attempt for part in self.parts for attempt in part.attempts)

    def usage(self) -> dict[str, float]:
        """Of all attempts together, by name."""
        sums: Counter[str] = Counter()
        for attempt in self.attempts():
            sums.update(attempt.usage)
        return dict(sums)


def look(directory: Path, run: str, rows: Any) -> tuple[Answers, Any]:
    """The answers of a run that another process may be adding to, and their `states`. Raises OutputError.

    That process removes parts which it has joined: what is gone before it was read is in a new one.
    """
    for _ in range(_LOOKS):
        with suppress(FileNotFoundError):
            answers = Answers.open(directory, run)
            return answers, answers.states(rows)
    raise OutputError(f"cannot read {directory}: its files come and go; try again")


def merged(parts: Sequence[Part]) -> Iterator[Entry]:
    """The rows of all parts by number. Of a row in several, the entry of the latest part.

    A part is opened when its first row is due, so that parts that follow on one another are read one by one.
    """
    waiting = deque(sorted(parts, key=lambda part: part.first))
    heap: list[tuple[int, int, int, Entry, Iterator[Entry]]] = []
    opened, last = 0, -1
    while heap or waiting:
        while waiting and (not heap or waiting[0].first <= heap[0][0]):
            part = waiting.popleft()
            rest = part.entries()
            entry = next(rest)
            opened += 1
            heapq.heappush(heap, (entry.number, -part.sequence, opened, entry, rest))
        number, order, place, entry, rest = heap[0]
        if number != last:
            yield entry
            last = number
        following = next(rest, None)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following.number, order, place, following, rest))


def latest(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Each attempt as it was last, in the order in which they began."""
    found: dict[str, Attempt] = {}
    for attempt in attempts:
        if attempt.name not in found or found[attempt.name].committed <= attempt.committed:
            found[attempt.name] = attempt
    return sorted(found.values(), key=lambda attempt: (attempt.started, attempt.name))
