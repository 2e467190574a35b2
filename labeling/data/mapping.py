"""`--map FIELD=COLUMN`: which column to take for a field, whatever columns are called."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from preftree.engine.errors import UsageError
from preftree.labeling.data.shapes import OTHERS, OWN
from preftree.labeling.terminal import one_line

FIELDS = tuple(dict.fromkeys(name for shape in (OWN, *OTHERS) for name in shape.columns))


@dataclass(frozen=True)
class ColumnMapping:
    """columns: of each field, the column to take. A name with dots that no column has leads into nested values:
    `info.post`, `summaries.0.text`.
    """

    columns: Mapping[str, str] = field(default_factory=dict)

    def applied(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row with its columns renamed to fields. One that had a field's name gets "input_" in front of it."""
        if not self.columns:
            return row if isinstance(row, dict) else dict(row)
        taken = {column: name for name, column in self.columns.items()}
        renamed = {}
        for column, value in row.items():
            if column in taken:
                renamed[taken[column]] = value
            else:
                renamed[f"input_{column}" if column in self.columns else column] = value
        for name, path in self.columns.items():
            if path not in row and (found := _inside(row, path)) is not _NOTHING:
                renamed[name] = found
        return renamed

    def check(self, rows: Collection[Mapping[str, Any]], where: str) -> None:
        """UsageError for a column that none of these rows has."""
        for name, column in self.columns.items():
            if not any(column in row or _inside(row, column) is not _NOTHING for row in rows):
                names = ", ".join(one_line(other) for other in dict.fromkeys(key for row in rows for key in row))
                raise UsageError(f"{where} has no column {one_line(column)} to --map to {name}; it has {names}")


def column_mapping(texts: Sequence[str]) -> ColumnMapping:
    """From "FIELD=COLUMN" texts. Raises UsageError."""
    columns: dict[str, str] = {}
    for text in texts:
        name, equals, column = text.partition("=")
        if not (equals and name and column):
            raise UsageError(f"--map {one_line(text)} is not FIELD=COLUMN, such as response_a=output")
        if name not in FIELDS:
            raise UsageError(f"--map {one_line(text)}: {one_line(name)} is no field; fields are {', '.join(FIELDS)}")
        if name in columns:
            raise UsageError(
                f"--map gives {name} two columns, {one_line(columns[name])} and {one_line(column)}; keep one"
            )
        if column in columns.values():
            raise UsageError(f"--map takes column {one_line(column)} twice; a column is one field")
        columns[name] = column
    return ColumnMapping(columns)


_NOTHING = object()


def _inside(row: Mapping[str, Any], path: str) -> Any:
    """What the steps of a dotted path lead to, through objects by name and through lists by index."""
    found: Any = row
    for step in path.split("."):
        if isinstance(found, Mapping) and step in found:
            found = found[step]
        elif isinstance(found, list) and step.isascii() and step.isdigit() and int(step[:9]) < len(found):
            found = found[int(step[:9])]
        else:
            return _NOTHING
    return found
