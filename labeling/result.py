"""What a command has to say, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    """Iterating gives the lines.

    Attributes:
        lines: for a terminal.
        data: the same for `--json`, of what JSON knows; its fields are in docs/json.md.
        error: what was found wrong, though there is a result; "" for nothing.
        code: the exit code.
    """

    lines: Sequence[str]
    data: Mapping[str, Any]
    error: str = ""
    code: int = 0

    def __iter__(self) -> Iterator[str]:
        return iter(self.lines)
