"""The answers of a run, as far as they are there: whole parts of its directory, read as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.answers.entry import Entry, entries_of
from preftree.labeling.answers.lines import LineReader
from preftree.labeling.answers.part import PATTERN, Attempt, DamagedPart, Part, open_part
from preftree.labeling.data.folder import Folder, folder_of
from preftree.labeling.data.selection import windows_of

ANSWERS = "answers"
MISSING, ANSWERED, REJECTED = 0, 1, 2
TEXT_COLUMNS = ("row", "text")
LOOKS = 5  # at files that another process may join meanwhile


@dataclass(frozen=True)
class Answers:
    """What was in a folder when it was opened.

    Attributes:
        parts: from the earliest to the latest.
        damaged: where files are that are no parts (any more, or yet), each with what is wrong with it.
    """

    parts: tuple[Part, ...] = ()
    damaged: tuple[tuple[Path | str, str], ...] = ()

    @classmethod
    def open(cls, named: Path | Folder, run: str | None = None) -> Answers:
        """Reads and checks every part; empty where there is no such folder. Others may be adding to it.

        A process that joins parts removes them: what is gone before it was read is in a new one.

        run: that parts must be of. Raises OutputError.
        """
        folder = folder_of(named)
        for _ in range(LOOKS):
            with suppress(FileNotFoundError):
                answers = cls._opened(folder)
                break
        else:
            raise OutputError(f"cannot read {folder}: its files come and go; try again")
        for part in answers.parts:
            if run is not None and part.run != run:
                raise OutputError(f"{folder.place(part.name)} belongs to another run; move it out of {folder}")
        return answers

    @classmethod
    def _opened(cls, folder: Folder) -> Answers:
        parts, damaged = [], []
        try:
            for name in folder.names(PATTERN):
                try:
                    parts.append(open_part(folder, name))
                except DamagedPart as error:
                    damaged.append((folder.place(name), str(error)))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise OutputError(f"cannot read {folder}: {error.strerror or error}") from error
        return cls(tuple(sorted(parts, key=lambda part: part.order)), tuple(damaged))

    def states(self, rows: Any) -> Any:
        """A NumPy array with MISSING, ANSWERED or REJECTED for each of these rows.

        rows: their numbers, ascending, see `preftree.labeling.data.selection.rows_of`.
        """
        import numpy as np

        states = np.full(len(rows), MISSING, np.uint8)
        if len(rows):
            spans = self._spans[(self._spans[:, 0] <= rows[-1]) & (self._spans[:, 1] > rows[0])]
            places = rows.searchsorted(spans[:, :2])
            for (start, stop), is_rejected in zip(places.tolist(), spans[:, 2].tolist(), strict=True):
                states[start:stop] = REJECTED if is_rejected else ANSWERED
        return states

    def counts(self, rows: Any) -> tuple[int, int, int]:
        """How many of these rows are MISSING, ANSWERED and REJECTED. rows: as of `states`, any number of them."""
        import numpy as np

        found = sum((np.bincount(self.states(window), minlength=3) for window in windows_of(rows)), np.zeros(3, int))
        missing, answered, rejected = found.tolist()
        return missing, answered, rejected

    def texts(self, rows: Any) -> Any:
        """A NumPy array of digests, see `Entry.text`; 0 for a row that has no answers or could not be read."""
        near = [part for part in self.parts if part.first <= rows[-1] and part.spans[-1, 1] > rows[0]]
        return texts_of(LineReader(near, TEXT_COLUMNS).upto(int(rows[-1])), rows)

    @cached_property
    def _spans(self) -> Any:
        """Those of all parts, the earliest part first."""
        import numpy as np

        return np.concatenate([np.empty((0, 3), np.int64), *(part.spans for part in self.parts)])

    def entries(self) -> Iterator[Entry]:
        """Every row once, in the order of their numbers; a few parts are open at a time.

        Raises OutputError, and FileNotFoundError where another process has joined parts meanwhile.
        """
        return merged(self.parts)

    def attempts(self) -> list[Attempt]:
        """In the order in which they began."""
        return latest(attempt for part in self.parts for attempt in part.attempts)

    def usage(self) -> dict[str, float]:
        """Of all attempts together, by name."""
        sums: Counter[str] = Counter()
        for attempt in self.attempts():
            sums.update(attempt.usage)
        return dict(sums)


def texts_of(lines: Any, rows: Any) -> Any:
    """A NumPy array of digests, see `Answers.texts`. lines: a table of TEXT_COLUMNS, in the order of rows."""
    import numpy as np

    numbers, digests = lines.column("row").to_numpy(), lines.column("text").fill_null(0).to_numpy()
    if not len(numbers):
        return np.zeros(len(rows), np.int64)
    places = np.minimum(numbers.searchsorted(rows), len(numbers) - 1)
    return np.where(numbers[places] == rows, digests[places], 0)


def look(named: Path | Folder, run: str, rows: Any) -> tuple[Answers, Any]:
    """The answers of a run that another process may be adding to, and their `states`. Raises OutputError."""
    answers = Answers.open(named, run)
    return answers, answers.states(rows)


def merged(parts: Sequence[Part]) -> Iterator[Entry]:
    """The rows of all parts by number. Of a row in several, the entry of the latest part."""
    return entries_of(batch for table in LineReader(parts).tables() for batch in table.to_batches())


def latest(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Each attempt as it was last, in the order in which they began."""
    found: dict[str, Attempt] = {}
    for attempt in attempts:
        if attempt.name not in found or found[attempt.name].committed <= attempt.committed:
            found[attempt.name] = attempt
    return sorted(found.values(), key=lambda attempt: (attempt.started, attempt.name))
