"""A text file as numbered lines, without ever holding a line that is too long to be a row."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from engine.errors import InputError

MAX_LINE_BYTES = 16 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"


class Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


def numbered_lines(path: Path, digest: Digest | None = None) -> Iterator[tuple[int, bytes | None]]:
    """Yields (1-based number, bytes) of every line that is not blank; None in place of a line over 16 MB.

    A byte order mark and carriage returns at line ends are dropped. `digest` sees every byte of the file.
    Raises InputError when the file cannot be read.
    """
    check_readable(path)
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if digest:
                    digest.update(line)
                if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                    _skip_to_line_end(file, digest)
                    yield number, None
                    continue
                if number == 1:
                    line = line.removeprefix(_BOM)
                if line := line.strip(b" \t\r\n"):
                    yield number, line
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def check_readable(path: Path) -> None:
    """Raises InputError unless `path` is a plain file; it is read twice, so a pipe will not do."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a directory; name a JSONL file in it")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is not a plain file, and the input is read twice; save it to a file first")


def _skip_to_line_end(file: BinaryIO, digest: Digest | None) -> None:
    while chunk := file.readline(1 << 20):
        if digest:
            digest.update(chunk)
        if chunk.endswith(b"\n"):
            return
