"""Regular files. To open a named pipe waits for whoever writes to it, and a device may do anything."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotRegularError(OSError):
    """`strerror` says what is there instead of a regular file."""

    def __init__(self, kind: str) -> None:
        super().__init__(0, f"it is {kind}; name a regular file")

    def __str__(self) -> str:
        return str(self.strerror)


def kind_of(mode: int) -> str | None:
    """What has this st_mode, None for a regular file."""
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no file")


def open_regular(path: Path) -> BinaryIO:
    """Open for reading without ever waiting; links are followed. Raises NotRegularError and OSError."""
    if kind := kind_of(path.stat().st_mode):
        raise NotRegularError(kind)
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")


def read(path: Path) -> bytes:
    """All bytes. Raises as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()
