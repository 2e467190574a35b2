"""Rows as columns, where nothing is wrong with them: what is done for all of them at once needs no object for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from preftree.labeling.data.arrow import column_values, flat
from preftree.labeling.data.columns import Kind, stored
from preftree.labeling.data.row import PAIR_FIELDS, SINGLE_FIELDS, fields_of
from preftree.labeling.data.shapes import OWN
from preftree.labeling.types import Pair, Response, Sample

# What `str.isspace` says of every character; Arrow's own idea of white space is another one.
_SPACE = r"\x{09}-\x{0d}\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
NOT_BLANK = f"[^{_SPACE}]"
_RESPONSES = {PAIR_FIELDS: ("response_a", "response_b"), SINGLE_FIELDS: ("response",)}
_GOLD = ("a", "b", "tie")


@dataclass(frozen=True)
class PlainRows:
    """Samples of one kind, column by column: pyarrow arrays of one length.

    Attributes:
        ids: strings.
        prompt: strings, each a single message of the user.
        responses: one array for each response of a sample.
        gold: strings or null; None where the samples have none.
        extra: the columns that pass through, by name: arrays as they were read.
    """

    ids: Any
    prompt: Any
    responses: tuple[Any, ...]
    gold: Any | None
    extra: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def fields(self) -> tuple[str, ...]:
        """Of each row, those that make it a sample."""
        return PAIR_FIELDS if self.kind is Pair else SINGLE_FIELDS

    @property
    def has_ids(self) -> bool:
        """Whether every row has one, the bad ones, too."""
        return bool(_not_blank(self.ids).all())

    @property
    def kind(self) -> type[Sample]:
        """Of the samples."""
        return Pair if len(self.responses) == 2 else Response

    def only(self, where: Any) -> PlainRows:
        """Some of the rows. where: a NumPy array of bools."""
        import pyarrow as pa

        if where.all():
            return self
        chosen = pa.array(where)
        return PlainRows(
            self.ids.filter(chosen),
            self.prompt.filter(chosen),
            tuple(texts.filter(chosen) for texts in self.responses),
            None if self.gold is None else self.gold.filter(chosen),
            {name: column.filter(chosen) for name, column in self.extra.items()},
        )

    def stored(self, name: str, kind: Kind, arrow_type: Any) -> Any:
        """A column that passes through, as labels hold it."""
        import pyarrow as pa

        column = self.extra.get(name)
        if column is None:
            return pa.nulls(len(self), arrow_type)
        if kind == "float" and pa.types.is_floating(column.type):
            return flat(column)
        if kind != "json" and column.type == arrow_type:
            return column
        return pa.array(stored(column_values("rows", name, column), kind), arrow_type)


def plain_rows(batch: Any, lines: Any, fields: Mapping[str, str]) -> tuple[PlainRows, Any] | None:
    """The rows of a record batch as columns, and which of them are samples with nothing wrong (a NumPy array of bools).

    Rows of which nothing is said may be samples, too. None where nothing is said of any.

    Args:
        batch: its texts must be valid UTF-8.
        lines: the line of each row.
        fields: of `plain_fields`.
    """
    import numpy as np

    own = fields_of(fields)
    columns = {name: _texts(batch.column(fields[name])) for name in ("prompt", *_RESPONSES[own])}
    columns["id"] = _ids(batch, lines, fields)
    if any(column is None for column in columns.values()):
        return None
    good = np.ones(len(batch), np.bool_)
    for column in columns.values():
        good &= _not_blank(column)
    gold = None
    if "gold" in own and "gold" in fields:
        gold = _gold(batch.column(fields["gold"]))
        if gold is None:
            return None
        good &= _known_gold(gold)
    extra = {name: batch.column(column) for name, column in fields.items() if name not in own}
    responses = tuple(columns[name] for name in _RESPONSES[own])
    return PlainRows(columns["id"], columns["prompt"], responses, gold, extra), good


def plain_fields(names: Sequence[str], layout: Any) -> dict[str, str] | None:
    """The columns of rows with these names as a layout maps them: the name in the input, by what it is called then.

    None where rows must be looked at one by one. layout: see `preftree.labeling.data.layout.Layout`.
    """
    if layout.shape is not OWN or not {*layout.mapping.columns.values()} <= {*names}:
        return None
    fields: dict[str, str] = layout.mapping.applied(dict(zip(names, names, strict=True)))
    responses = _RESPONSES.get(fields_of(fields))
    return None if responses is None or not {"prompt", *responses} <= fields.keys() else fields


def _texts(column: Any) -> Any | None:
    from pyarrow import types

    if types.is_string(column.type):
        return column
    return column.cast("string") if types.is_large_string(column.type) else None


def _ids(batch: Any, lines: Any, fields: Mapping[str, str]) -> Any | None:
    import pyarrow as pa

    if "id" not in fields:
        return pa.array([f"line-{line}" for line in lines.tolist()], pa.string())
    column = batch.column(fields["id"])
    return column.cast("string") if pa.types.is_integer(column.type) else _texts(column)


def _gold(column: Any) -> Any | None:
    from pyarrow import types

    return column.cast("string") if types.is_null(column.type) else _texts(column)


def _not_blank(column: Any) -> Any:
    from pyarrow import compute

    return compute.match_substring_regex(column, NOT_BLANK).fill_null(False).to_numpy(zero_copy_only=False)


def _known_gold(column: Any) -> Any:
    import pyarrow as pa
    from pyarrow import compute

    found = compute.is_in(column, pa.array([*_GOLD, None], pa.string()))
    return found.to_numpy(zero_copy_only=False)
