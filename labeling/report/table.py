"""A table of texts, for a page or a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Attributes:
    head: of each column; empty where a row is a name and its value.
    rows: the first cell of each names the row.
    """

    rows: tuple[tuple[str, ...], ...]
    head: tuple[str, ...] = ()

    @property
    def is_wide(self) -> bool:
        """Whether nothing else fits beside it."""
        return len(self.head) > 5 or (not self.head and len(self.rows) > 6)

    def lines(self) -> Iterator[str]:
        """For a terminal: columns are as wide as what is in them."""
        rows = [self.head, *self.rows] if self.head else self.rows
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def decimal(value: float | None, sign: str = "") -> str:
    """Three digits after the point; sign "+" shows it always."""
    return "–" if value is None else f"{value:{sign}.3f}"
