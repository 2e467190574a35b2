"""The columns that pass through: what kind each holds, its name in the output, how its values are stored.

A column of one scalar type keeps it. Integers and floats together are floats where every integer survives.
Everything else, nested values and integers beyond 64 bits included, becomes JSON text: nothing is lost.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from preftree.engine.errors import InputError
from preftree.labeling.terminal import one_line
from preftree.labeling.types import ArrowType

IMITATES = "imitates_template"
UNCALIBRATED = "p_a_uncalibrated"  # what the judge said, where p_a is calibrated
Kind = Literal["string", "int", "float", "bool", "json"]


def label_columns(method: Mapping[str, ArrowType]) -> dict[str, ArrowType]:
    """Every column that labels.parquet starts with, `method` being those of its method.

    response_chars: characters of each response, for figures of length bias without the texts. imitates_template:
    whether the row's texts hold a line of the template, see `preftree.labeling.prompts.imitation`.
    """
    own: dict[str, ArrowType] = {"status": "string", "reason": "string", "prompt_tokens": "int64"}
    return {"id": "string", **method, **own, "response_chars": ["int64"], IMITATES: "bool"}


def names_of_labels(names: Sequence[str]) -> Sequence[str]:
    """Of a file of labels the columns up to those of its method, which come first; all where it has no status."""
    return names[: names.index("status")] if "status" in names else names


MAX_COLUMNS = 1000

_TOO_MANY = f"the input has over {MAX_COLUMNS} different columns; nest changing keys in one column"
EXACT_IN_FLOAT = 2**53
_INT64 = 2**63


class ColumnKinds:
    """Learns, row by row, the kind of every extra column, in the order in which they first appear."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}

    def add(self, extra: Mapping[str, Any]) -> None:
        for name, value in extra.items():
            kinds = self._seen.setdefault(name, set())
            if value is not None:
                kinds.add(_kind(value))
        if len(self._seen) > MAX_COLUMNS:
            raise InputError(_TOO_MANY)

    def resolve(self) -> dict[str, Kind]:
        return {name: _resolve(kinds) for name, kinds in self._seen.items()}


def check_names(place: str, names: Sequence[str]) -> None:
    """InputError where the columns of a table are too many, or two have one name."""
    if len(names) > MAX_COLUMNS:
        raise InputError(f"{place}: {_TOO_MANY}")
    if repeated := next((name for name, count in Counter(names).items() if count > 1), None):
        raise InputError(f"{place} has two columns named {one_line(repeated)}; rename one")


def output_names(columns: Iterable[str], reserved: Collection[str]) -> dict[str, str]:
    """Input name -> output name: one that the labels need for themselves (`reserved`) gets "input_" in front."""
    names = list(columns)
    taken = {*reserved, *names}
    renamed = {}
    for name in names:
        output = name
        if name in reserved:
            while output in taken:
                output = f"input_{output}"
            taken.add(output)
        renamed[name] = output
    return renamed


def stored(values: list[Any], kind: Kind) -> list[Any]:
    """Values as their column holds them."""
    if kind == "json":
        return [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
    if kind == "float":
        return [None if value is None else float(value) for value in values]
    return values


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, float):
        return "float"
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return "int" if abs(value) <= EXACT_IN_FLOAT else "long"
    return "json"


def _resolve(kinds: set[str]) -> Kind:
    if not kinds or kinds == {"string"}:
        return "string"
    if kinds == {"bool"}:
        return "bool"
    if kinds <= {"int", "long"}:
        return "int"
    if kinds <= {"int", "float"}:
        return "float"
    return "json"
