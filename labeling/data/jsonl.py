"""JSON lines: an object on each."""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass
from pathlib import Path

from preftree.engine.errors import InputError
from preftree.labeling.data.digest import file_sha256
from preftree.labeling.data.lines import Line, numbered_lines
from preftree.labeling.data.row import BadRow, parse
from preftree.labeling.data.source import NumberedRow
from preftree.labeling.data.stream import text_bytes


@dataclass(frozen=True)
class JsonLines:
    """See `preftree.labeling.data.source.Source`. A row's number is that of its line."""

    path: Path
    compression: str | None = None

    @property
    def format(self) -> str:
        return f"JSONL, {self.compression}" if self.compression else "JSONL"

    def rows(self, columns: Collection[str] | None = None) -> Generator[NumberedRow]:
        """A last line that breaks off is the file's fault: what was to follow it is missing, too."""
        with text_bytes(self.path, self.compression) as file:
            for index, line in enumerate(numbered_lines(file)):
                if index == 0 and line.text is not None and line.text.startswith(b"["):
                    raise InputError(f"{self.path} is one JSON array; put each object on a line of its own (jq -c .[])")
                try:
                    yield line.number, parse(line.text)
                except BadRow as error:
                    if not line.ended:
                        raise self._torn(line, error) from None
                    yield line.number, error

    def kinds(self) -> None:
        return None

    def sha256(self) -> str:
        return file_sha256(self.path)

    def _torn(self, line: Line, error: BadRow) -> InputError:
        return InputError(
            f"{self.path}, line {line.number}: the last line breaks off ({error}), so the file may lack more; get it "
            "whole again, or end that line with a line feed to have it rejected and the others labelled"
        )
