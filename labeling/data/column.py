"""A column that a template shows, nested ones included."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from preftree.engine.errors import InputError
from preftree.labeling.data.row import name_of


class Column(NamedTuple):
    """A column of the rows, or a field of one that holds objects.

    Attributes:
        path: the column's name, then those of fields inside it.
    """

    path: tuple[str, ...]

    @property
    def name(self) -> str:
        """As a template spells it: `row.info.title`, `row["odd name"]`."""
        steps = (
            f".{step}" if step.isidentifier() else f"[{json.dumps(step, ensure_ascii=False)}]" for step in self.path
        )
        return f"row{''.join(steps)}"

    def value(self, row: Mapping[str, Any]) -> Any:
        """What a row has there; None where it has nothing."""
        found: Any = row
        for step in self.path:
            found = found.get(step) if isinstance(found, Mapping) else None
        return found

    def text(self, row: Mapping[str, Any], template: str) -> str:
        """The text to show: a string as it is, numbers, true and false as JSON spells them.

        Raises InputError, which says what `template` needs, for anything else.
        """
        value = self.value(row)
        if isinstance(value, str):
            return value
        if value is None:
            raise InputError(f"missing column: {self.name}, which template {template} shows, is not there or null")
        if isinstance(value, bool | int | float):
            return json.dumps(value)
        raise InputError(
            f"wrong type: {self.name}, which template {template} shows, must be a text or a number, found "
            f"{name_of(value)}"
        )


def row_of(values: Mapping[Column, str]) -> dict[str, Any]:
    """The row that has these values, and nothing else."""
    row: dict[str, Any] = {}
    for column, value in sorted(values.items(), key=lambda entry: -len(entry[0].path)):
        *outer, last = column.path
        fields = row
        for step in outer:
            fields = fields.setdefault(step, {})
        fields[last] = value
    return row
