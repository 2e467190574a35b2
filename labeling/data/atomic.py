"""A file that gets its name only when it is complete."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from preftree.engine.errors import OutputError

_DRAFT = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


class Draft:
    """Open for writing at `path`, a temporary name beside `final`. Methods raise OSError."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.path = final.with_name(f".{final.name}.{secrets.token_hex(4)}.tmp")
        self.file = self.path.open("xb")

    def seal(self) -> None:
        """On disk whole, under the temporary name."""
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()

    def publish(self) -> None:
        """Takes the final name, in the place of whatever has it."""
        self.path.replace(self.final)

    def discard(self) -> None:
        """Removes the temporary file if it is still there."""
        with suppress(OSError):
            self.file.close()
        with suppress(OSError):
            self.path.unlink()


@contextmanager
def drafts(*finals: Path) -> Iterator[list[Draft]]:
    """Files to fill, which get their names together once all are complete; else they leave nothing.

    Old files but the first go before: no new file stands beside an old one. Raises OutputError.
    """
    made: list[Draft] = []
    try:
        made.extend(map(Draft, finals))
        yield made
        for draft in made:
            draft.seal()
        for final in finals[1:]:
            final.unlink(missing_ok=True)
        for draft in made:
            draft.publish()
        sync_directory(finals[0].absolute().parent)
    except OSError as error:
        raise OutputError(f"cannot write {finals[0]}: {error.strerror or error}") from error
    finally:
        for draft in made:
            draft.discard()


def remove_drafts(directory: Path) -> None:
    """Those that a killed process has left in a directory which nobody else writes to. Raises OSError."""
    for path in directory.glob(".*.tmp"):
        if _DRAFT.fullmatch(path.name):
            path.unlink()


def sync_directory(path: Path) -> None:
    """Makes renames in a directory last, where the platform can."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
