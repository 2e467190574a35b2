"""Figures by the values of a column: so many values, each cut short."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from preftree.labeling.report.agreement import Agreement
from preftree.labeling.report.arrays import column
from preftree.labeling.terminal import one_line

MAX_VALUES = 50
_MAX_CHARS = 60
OTHERS = "all other values"
_WHOLE = ("win_rate", "reward_above_0")


class Section(Protocol):
    """Running figures of one kind of labels.

    Attributes:
        gold: agreement of verdicts with gold; empty for labels without verdicts.
    """

    @property
    def gold(self) -> Agreement: ...

    def add(self, batch: Any) -> None:
        """The rows of a record batch with the columns of labels.parquet."""

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal: name and text; figures that have nothing to stand on are left out."""

    def briefly(self) -> list[str]:
        """For a terminal: what matters most, on one line or a few."""


class Subsets:
    """The figures for each value of a column, in the order in which values appear.

    The first 50 values are kept apart, the others together. Values are told by the first 60 characters of their text,
    which is JSON for all but strings; a row without a value has the value null.
    """

    def __init__(self, column: str, section: Callable[[], Section]) -> None:
        self._column = column
        self._section = section
        self._values: dict[str, tuple[list[int], Section]] = {}
        self._others: tuple[list[int], Section] = [0], section()

    def add(self, batch: Any) -> None:
        """The rows of a record batch with the columns of labels.parquet."""
        import pyarrow as pa

        texts, codes = value_texts(column(batch, self._column))
        kept = list(dict.fromkeys(texts))
        places = np.array([kept.index(text) if text in self._values or self._has_room(text) else -1 for text in texts])
        of_row = places[codes]
        for place in np.unique(of_row):
            rows, section = self._others if place < 0 else self._values[kept[place]]
            some = batch.filter(pa.array(of_row == place))
            rows[0] += len(some)
            section.add(some)

    def _has_room(self, text: str) -> bool:
        """Whether the value is kept apart, which it is from now on."""
        if len(self._values) < MAX_VALUES:
            self._values[text] = [0], self._section()
            return True
        return False

    def figures(self) -> dict[str, Any]:
        """For run.json. pairs: those with a gold of a or b."""
        values = [{"value": text, **_entry(rows[0], of)} for text, (rows, of) in self._values.items()]
        rows, others = self._others
        return {"column": self._column, "values": values, "others": _entry(rows[0], others) if rows[0] else None}

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal: a line a value, of agreement with gold where there is gold, else of what else there is."""
        named = [(one_line(text), of) for text, (_, of) in self._values.items()]
        if self._others[0][0]:
            named.append((OTHERS, self._others[1]))
        has_gold = any(of.gold.pairs for _, of in named)
        named = [(name, of) for name, of in named if of.gold.pairs or not has_gold]
        width = max((len(name) for name, _ in named), default=0)
        by = f"by {one_line(self._column)[:_MAX_CHARS]}"
        return [
            (by, f"{name:<{width}}  {text}")
            for name, of in named
            for text in ([of.gold.text()] if has_gold else of.briefly())
        ]


def value_texts(array: Any) -> tuple[list[str], Any]:
    """The different values as texts, in the order in which they appear, and which of them each row has."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if types.is_nested(array.type):
        array = pa.array([None if value is None else _text(value) for value in array.to_pylist()], "string")
    encoded = array.dictionary_encode(null_encoding="encode")
    return [_text(value)[:_MAX_CHARS] for value in encoded.dictionary.to_pylist()], encoded.indices.to_numpy()


def _text(value: Any) -> str:
    """A column of values of several types holds JSON, strings in quotes."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, default=str)
    if value[:1] == value[-1:] == '"':
        with suppress(ValueError):
            return str(json.loads(value))
    return value


def _entry(rows: int, of: Section) -> dict[str, Any]:
    gold = of.gold.figures()
    agreement = {"pairs": of.gold.pairs, **{name: gold[name] for name in ("agreement", "agreement_interval")}}
    return {"rows": rows, **agreement, "figures": _headline(of.figures())}


def _headline(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures that are numbers, and some of those that are objects; set by set where there are sets."""
    if "sets" in figures:
        kinds = ("pairs", "responses")
        return {
            "sets": [
                {"name": one["name"], **{kind: one[kind] and _headline(one[kind]) for kind in kinds}}
                for one in figures["sets"]
            ]
        }
    numbers = {
        name: value
        for name, value in figures.items()
        if value is None or isinstance(value, int | float) or name.startswith(_WHOLE)
    }
    for name, inner in (("calibration", "expected_calibration_error"), ("length_bias", "chose_longer")):
        numbers.pop(name, None)
        if figures.get(name):
            numbers[inner] = figures[name][inner]
    return numbers
