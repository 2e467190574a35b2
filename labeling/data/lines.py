"""A text file as numbered lines, without ever holding a line that is too long to be a row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

MAX_LINE_BYTES = 16 * 1024 * 1024
TOO_LONG = f"line too long: over {MAX_LINE_BYTES // 1024**2} MB"
BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """number: from 1. text: stripped; None where they are over 16 MB. ended: by a line feed."""

    number: int
    text: bytes | None
    ended: bool


def numbered_lines(file: BinaryIO) -> Iterator[Line]:
    """Every line that is not blank. A byte order mark and carriage returns at line ends are dropped."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        ended = line.endswith(b"\n")
        if len(line) > MAX_LINE_BYTES and not ended:
            yield Line(number, None, _skip_to_line_end(file))
            continue
        if number == 1:
            line = line.removeprefix(BOM)
        if text := line.strip(b" \t\r\n"):
            yield Line(number, text, ended)


def _skip_to_line_end(file: BinaryIO) -> bool:
    """Whether there was one."""
    while chunk := file.readline(1 << 20):
        if chunk.endswith(b"\n"):
            return True
    return False
