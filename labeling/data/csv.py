"""Comma- or tab-separated text with a header: every field is text, an empty one is null."""

from __future__ import annotations

import csv
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO

from preftree.engine.errors import InputError
from preftree.labeling.data import lines
from preftree.labeling.data.columns import check_names
from preftree.labeling.data.digest import file_sha256
from preftree.labeling.data.row import BadRow
from preftree.labeling.data.source import NumberedRow
from preftree.labeling.data.stream import text_bytes

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BYTES_AS_SURROGATES = range(0xDC80, 0xDD00)  # where "surrogateescape" puts bytes that are no UTF-8


@dataclass(frozen=True)
class Csv:
    """See `labeling.data.source.Source`. Rows are numbered behind the header, as rows of a table are."""

    path: Path
    delimiter: str = ","
    compression: str | None = None

    @property
    def format(self) -> str:
        name = "TSV" if self.delimiter == "\t" else "CSV"
        return f"{name}, {self.compression}" if self.compression else name

    def rows(self, columns: Collection[str] | None = None) -> Generator[NumberedRow]:
        # The module's limit of a field is one for the whole process; raising it takes nothing from anybody.
        csv.field_size_limit(max(csv.field_size_limit(), lines.MAX_LINE_BYTES))
        number = 0
        with text_bytes(self.path, self.compression) as file:
            try:
                records = csv.reader(self._text_lines(file), delimiter=self.delimiter, strict=True)
                header = self._header(next(records, None))
                for number, record in enumerate(filter(None, records), start=1):
                    yield number, _row(header, record)
            except csv.Error as error:
                raise InputError(
                    f"{self.path}, behind row {number}: {error}; the file breaks off there, or a quote is not closed "
                    "or not doubled"
                ) from error

    def kinds(self) -> None:
        return None

    def sha256(self) -> str:
        return file_sha256(self.path)

    def _text_lines(self, file: BinaryIO) -> Iterator[str]:
        """Lines with their ends. A line too long is the file's fault: who knows whether it ends inside quotes."""
        for number in count(1):
            line = file.readline(lines.MAX_LINE_BYTES + 1)
            if number == 1 and line.startswith(_UTF16):
                raise InputError(f"{self.path} is UTF-16; save it as UTF-8")
            if len(line) > lines.MAX_LINE_BYTES:
                raise InputError(f"{self.path}, line {number}: {lines.TOO_LONG}; take it out, or close its quotes")
            if not line:
                return
            yield (line.removeprefix(lines.BOM) if number == 1 else line).decode("utf-8", "surrogateescape")

    def _header(self, names: list[str] | None) -> list[str]:
        if names is None:
            raise InputError(f"{self.path} holds no rows; it must have a header and a row on each line behind it")
        if any(_invalid_byte(name) is not None for name in names):
            raise InputError(f"{self.path}: the header is not UTF-8; save the file as UTF-8")
        check_names(self.path, names)
        return names


def _row(header: list[str], record: list[str]) -> dict[str, str | None] | BadRow:
    if len(record) != len(header):
        return BadRow(f"wrong number of columns: found {len(record)}, the header has {len(header)}")
    if sum(map(len, record)) > lines.MAX_LINE_BYTES:
        return BadRow(lines.TOO_LONG)
    for field in record:
        if not field.isascii() and (byte := _invalid_byte(field)) is not None:
            return BadRow(f"invalid UTF-8: byte 0x{byte:02x}")
    return dict(zip(header, (field or None for field in record), strict=True))


def _invalid_byte(text: str) -> int | None:
    return next((ord(char) - 0xDC00 for char in text if ord(char) in _BYTES_AS_SURROGATES), None)
