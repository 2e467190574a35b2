"""Which ids may stand on several rows, found in constant memory: one pass collects hashes, on disk where they are many.

Hashes are Python's: 64 bits, with another key in every process. Two ids may share one, so those that are suspected of
being used twice are compared as they are when rows are read again. All others need not be remembered.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection
from tempfile import SpooledTemporaryFile, gettempdir

from preftree.engine.errors import OutputError

_IN_MEMORY = 1 << 20  # bytes
_AT_A_TIME = 1 << 18  # hashes
_PENDING = 4096


class Hashes:
    """`add` the ids of all rows, then ask which of their hashes are `repeated`. To be closed.

    Raises OutputError where a temporary file cannot be written.
    """

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
        self._pending: list[int] = []
        self._number = 0

    def close(self) -> None:
        self._file.close()

    def add(self, identity: str) -> None:
        self._pending.append(hash(identity))
        if len(self._pending) == _PENDING:
            self._flush()

    def repeated(self) -> frozenset[int]:
        """Sorts part by part: a part has all hashes of one remainder."""
        self._flush()
        parts = -(-self._number // _AT_A_TIME)
        return frozenset().union(*(self._repeated(rest, parts) for rest in range(parts)))

    def _flush(self) -> None:
        try:
            self._file.write(array("q", self._pending).tobytes())
        except OSError as error:
            raise OutputError(
                f"cannot write a temporary file in {gettempdir()}: {error.strerror or error}; make room there, or name "
                "another place with TMPDIR"
            ) from error
        self._number += len(self._pending)
        self._pending = []

    def _repeated(self, rest: int, parts: int) -> list[int]:
        import numpy as np

        self._file.seek(0)
        found = []
        while data := self._file.read(_IN_MEMORY):
            hashes = np.frombuffer(data, np.int64)
            found.append(hashes[hashes % parts == rest])
        values, counts = np.unique(np.concatenate(found), return_counts=True)
        repeated: list[int] = values[counts > 1].tolist()
        return repeated


class FirstUses:
    """Tells ids that come for the first time from others, given the hashes that are `Hashes.repeated`."""

    def __init__(self, repeated: Collection[int]) -> None:
        self._repeated = repeated
        self._used: set[str] = set()

    def add(self, identity: str) -> bool:
        """Whether it is new."""
        if hash(identity) not in self._repeated:
            return True
        is_new = identity not in self._used
        self._used.add(identity)
        return is_new
