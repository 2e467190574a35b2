"""Ids that several rows have: found by their hashes, in memory that does not grow, and left to the first such row."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from preftree.engine.errors import OutputError
from preftree.labeling.data.batches import ItemRows, RowBatch
from preftree.labeling.data.row import quoted, rejected
from preftree.labeling.types import Rejected, Sample

_IN_MEMORY = 1 << 20  # hashes
_FILES = 64


class IdHashes:
    """Hashes are Python's: 64 bits, with another key in every process. Two ids may share one.

    Beyond a million they go into temporary files, equal ones into the same.
    """

    def __init__(self) -> None:
        self._hashes = array("q")
        self._files: list[BinaryIO] = []
        self._stack = ExitStack()

    def add(self, ids: Iterable[str]) -> None:
        """Raises OutputError where there is no room for temporary files."""
        self._hashes.extend(map(hash, ids))
        if len(self._hashes) >= _IN_MEMORY:
            self._spill()

    def repeated(self) -> frozenset[int]:
        """Hashes that were added twice or more. Called once, after the last `add`."""
        import numpy as np

        if not self._files:
            return _twice(np.frombuffer(self._hashes, np.int64))
        self._spill()
        found: set[int] = set()
        with self._stack:
            for file in self._files:
                file.seek(0)
                found |= _twice(np.frombuffer(file.read(), np.int64))
        return frozenset(found)

    def _spill(self) -> None:
        import numpy as np

        try:
            if not self._files:
                self._files = [self._stack.enter_context(TemporaryFile()) for _ in range(_FILES)]  # noqa: SIM115
            hashes = np.frombuffer(self._hashes, np.int64)
            hashes = hashes[np.argsort(hashes % _FILES, kind="stable")]
            ends = np.searchsorted(hashes % _FILES, np.arange(_FILES + 1))
            for file, start, end in zip(self._files, ends[:-1], ends[1:], strict=True):
                file.write(hashes[start:end].tobytes())
        except OSError as error:
            raise OutputError(
                f"cannot keep hashes of ids in a temporary file: {error.strerror or error}; make room, or set TMPDIR"
            ) from error
        self._hashes = array("q")


def _twice(hashes: Any) -> frozenset[int]:
    import numpy as np

    ordered = np.sort(hashes)
    return frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())


class UsedIds:
    """Of ids that several rows have, each belongs to the first good row that has it. repeated: their hashes."""

    def __init__(self, repeated: frozenset[int]) -> None:
        self._repeated = repeated
        self._used: set[str] = set()

    def checked(self, item: Sample | Rejected) -> Sample | Rejected:
        """The next row; rejected where an earlier one has its id."""
        if not self._repeated or isinstance(item, Rejected) or hash(item.id) not in self._repeated:
            return item
        if item.id in self._used:
            return rejected(item, f"duplicate id: {quoted(item.id)} was used by an earlier row")
        self._used.add(item.id)
        return item

    def checked_batch(self, batch: RowBatch) -> RowBatch:
        """The next rows, as they are where nobody else can have an id of them."""
        if not self._repeated or (
            (plain := batch.plain) is not None
            and not plain[0].ids.null_count
            and self._repeated.isdisjoint(map(hash, plain[0].ids.to_pylist()))
        ):
            return batch
        return ItemRows([self.checked(item) for item in batch.items()])
