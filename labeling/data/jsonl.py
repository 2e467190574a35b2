"""JSON: an object on each line, or one array of objects in a file of moderate size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BufferedReader
from typing import BinaryIO

from preftree.engine.errors import InputError
from preftree.labeling.data.row import MAX_LINE_BYTES, BadRow, parse, parse_array
from preftree.labeling.data.source import Rows, TextFile, skip_blank_lines, text_bytes

ARRAY = "JSON array"
BOM = b"\xef\xbb\xbf"
BLANK = b" \t\r\n"
MAX_ARRAY_BYTES = 64 * 1024 * 1024


class JsonLines(TextFile):
    """See `preftree.labeling.data.source.Source`. A row's number is that of its line, or its place in the array."""

    FORMAT = "JSONL"

    @property
    def format(self) -> str:
        """Raises InputError where the file cannot be read."""
        with text_bytes(self.file, self.compression) as stream:
            _, is_array = _begin(stream)
        return super().format.replace(self.FORMAT, ARRAY) if is_array else super().format

    def rows(self, last: int = 0) -> Rows:
        """A last line that breaks off is the file's fault: what was to follow it is missing, too."""
        with text_bytes(self.file, self.compression) as stream:
            first, is_array = _begin(stream)
            if is_array:
                return (yield from self._array(first, stream, last))
            number = 0
            for number, text, ended in _numbered_lines(stream, first):
                if text == b"":
                    continue
                try:
                    yield last + number, parse(text)
                except BadRow as error:
                    if not ended:
                        raise self._torn(number, error) from None
                    yield last + number, error
            return last + number

    def _array(self, first: bytes, stream: BinaryIO, last: int) -> Rows:
        text = first + stream.read(max(0, MAX_ARRAY_BYTES + 1 - len(first)))
        if len(text) > MAX_ARRAY_BYTES:
            raise InputError(
                f"{self.file} is one JSON array of over {MAX_ARRAY_BYTES // 1024**2} MB; put each object on a line of "
                "its own (jq -c '.[]')"
            )
        number = last
        try:
            for number, row in enumerate(parse_array(text.removeprefix(BOM)), last + 1):
                yield number, row
        except BadRow as error:
            raise InputError(f"{self.file} is neither one JSON array nor an object on each line: {error}") from None
        return number

    def _torn(self, number: int, error: BadRow) -> InputError:
        return InputError(
            f"{self.file}, line {number}: the last line breaks off ({error}), so the file may lack more; get it whole "
            "again, or end that line with a line feed to have it rejected and the others labelled"
        )


def _begin(stream: BufferedReader) -> tuple[bytes, bool]:
    """The first line of what may be an array, and whether it is one; of any other text nothing is read."""
    if not stream.peek(1).removeprefix(BOM).lstrip(BLANK).startswith(b"["):
        return b"", False
    first = stream.readline(MAX_LINE_BYTES + 1)
    return first, not _is_row(first, stream.peek(1))


def _is_row(first: bytes, rest: bytes) -> bool:
    """Whether a first line is a value of its own before a line with an object, and not where an array begins."""
    if not rest.lstrip(BLANK).startswith(b"{"):
        return False
    try:
        return isinstance(json.loads(first.removeprefix(BOM)), list)
    except (ValueError, RecursionError):
        return False


def _numbered_lines(file: BufferedReader, first: bytes) -> Iterator[tuple[int, bytes | None, bool]]:
    """Of every line its number from 1, its text, and whether it ended by a line feed.

    Text is stripped, so that of a blank line is empty, and of many such lines only the last is there; it is None for a
    line too long to be a row, which is never held. first: a line that was read already.
    """
    number = 0
    while line := first or file.readline(MAX_LINE_BYTES + 1):
        first = b""
        number += 1
        ended = line.endswith(b"\n")
        if len(line) > MAX_LINE_BYTES and not ended:
            yield number, None, _skip_to_line_end(file)
            continue
        if number == 1:
            line = line.removeprefix(BOM)
        text = line.strip(BLANK)
        if not text:
            number += skip_blank_lines(file, BLANK)
        yield number, text, ended


def _skip_to_line_end(file: BinaryIO) -> bool:
    """Whether there was one."""
    while chunk := file.readline(1 << 20):
        if chunk.endswith(b"\n"):
            return True
    return False
