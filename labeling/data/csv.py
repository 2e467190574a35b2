"""Comma- or tab-separated text with a header: every field is text, an empty one is null."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import BufferedReader
from itertools import chain, count
from typing import BinaryIO

from preftree.engine.errors import InputError
from preftree.labeling.data.columns import check_names
from preftree.labeling.data.jsonl import BOM
from preftree.labeling.data.row import MAX_LINE_BYTES, TOO_LONG, BadRow
from preftree.labeling.data.source import Rows, TextFile, skip_blank_lines, text_bytes

_OF_EXCEL = ["sep=", ""]
_BLANK_LINES = ("\n", "\r\n")
_BYTES_AS_SURROGATES = range(0xDC80, 0xDD00)  # where "surrogateescape" puts bytes that are no UTF-8


class Csv(TextFile):
    """See `preftree.labeling.data.source.Source`. Rows are numbered after the header, as rows of a table are."""

    FORMAT, delimiter = "CSV", ","

    def rows(self, last: int = 0) -> Rows:
        # The module's limit of a field is one for the whole process; raising it takes nothing from anybody.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_BYTES))
        number = 0
        with text_bytes(self.file, self.compression) as file:
            try:
                records = self._records(file)
                header, first = self._header(records)
                for number, record in enumerate(chain(first, records), start=1):
                    yield last + number, _row(header, record)
            except csv.Error as error:
                raise InputError(
                    f"{self.file}, after row {number}: {error}; the file breaks off there, or a quote is not closed "
                    "or not doubled"
                ) from error
        return last + number

    def _records(self, file: BufferedReader) -> Iterator[list[str]]:
        """Those that are not blank."""
        lines = _Lines(self._text_lines(file), file)
        for record in csv.reader(lines, delimiter=self.delimiter, strict=True):
            lines.is_between = True
            if record:
                yield record

    def _text_lines(self, file: BinaryIO) -> Iterator[str]:
        """Lines with their ends. A line too long is the file's fault: who knows whether it ends inside quotes."""
        for number in count(1):
            line = file.readline(MAX_LINE_BYTES + 1)
            if len(line) > MAX_LINE_BYTES:
                raise InputError(f"{self.file}, line {number}: {TOO_LONG}; take it out, or close its quotes")
            if not line:
                return
            yield (line.removeprefix(BOM) if number == 1 else line).decode("utf-8", "surrogateescape")

    def _header(self, records: Iterator[list[str]]) -> tuple[list[str], list[list[str]]]:
        """The names of columns, and what was read beyond them. One field above several is a title and no header."""
        names, second = next(records, None), next(records, None)
        is_title = names and len(names) == 1 and second and len(second) > 1 and not _other_separator(names[0])
        if is_title or names == _OF_EXCEL:
            return self._checked(second), []
        return self._checked(names), [second] if second else []

    def _checked(self, names: list[str] | None) -> list[str]:
        if names is None:
            raise InputError(f"{self.file} holds no rows; it must have a header and a row on each line after it")
        if any(_invalid_byte(name) is not None for name in names):
            raise InputError(f"{self.file}: the header is not UTF-8; save the file as UTF-8")
        if len(names) == 1 and (other := _other_separator(names[0])):
            shown = "tabs" if other == "\t" else repr(other)
            raise InputError(f"{self.file} separates its columns by {shown}; save it with commas, or with tabs as .tsv")
        check_names(self.name, names)
        return names


class _Lines:
    """Lines for `csv.reader`, without blank ones between records. is_between: whether the last line ended a record."""

    def __init__(self, lines: Iterator[str], file: BufferedReader) -> None:
        self._lines = lines
        self._file = file
        self.is_between = True

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            if self.is_between and line in _BLANK_LINES:
                skip_blank_lines(self._file, b"\r\n")
            self.is_between = False
            yield line


class Tsv(Csv):
    FORMAT, delimiter = "TSV", "\t"


def _row(header: list[str], record: list[str]) -> dict[str, str | None] | BadRow:
    if len(record) != len(header):
        return BadRow(f"wrong number of columns: found {len(record)}, the header has {len(header)}")
    if sum(map(len, record)) > MAX_LINE_BYTES:
        return BadRow(TOO_LONG)
    for field in record:
        if not field.isascii() and (byte := _invalid_byte(field)) is not None:
            return BadRow(f"invalid UTF-8: byte 0x{byte:02x}")
    return dict(zip(header, (field or None for field in record), strict=True))


def _other_separator(header: str) -> str | None:
    """A character that separates columns in other files; of Excel's first line, the one that it names."""
    return next((char for char in ";\t|" if char in header), None)


def _invalid_byte(text: str) -> int | None:
    return next((ord(char) - 0xDC00 for char in text if ord(char) in _BYTES_AS_SURROGATES), None)
