"""What judges write before they answer, and the columns it goes into: `rationale`, `rationale_tokens`, `rationale_cut`.

A column holds one value where a prompt has one rationale, and a list where several are drawn. `end` tells the columns
of one prompt from those of another, such as "_first".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preftree.labeling.types import ArrowType


@dataclass(frozen=True)
class Rationale:
    """What a judge wrote before it answered.

    Attributes:
        text: the tokens decoded, which the tokenizer may encode otherwise.
        tokens: how many.
        cut: whether it was stopped at the most it may have.
        ids: the tokens; None where they were not recorded. Answers keep them, labels show the text alone.
    """

    text: str
    tokens: int
    cut: bool
    ids: tuple[int, ...] | None = None


_TYPES: dict[str, ArrowType] = {"rationale": "string", "rationale_tokens": "int64", "rationale_cut": "bool"}


def rationale_columns(samples: int, ends: Sequence[str]) -> dict[str, ArrowType]:
    """The columns of `samples` rationales for each of `ends`."""
    return {f"{name}{end}": kind if samples == 1 else [kind] for name, kind in _TYPES.items() for end in ends}


def rationale_values(by_end: Mapping[str, Sequence[Rationale]]) -> dict[str, Any]:
    """By column. {} where nothing was written."""
    found: dict[str, Any] = {}
    for end, written in by_end.items():
        if not written:
            continue
        columns = zip(*((one.text, one.tokens, one.cut) for one in written), strict=True)
        for name, column in zip(_TYPES, columns, strict=True):
            found[f"{name}{end}"] = column[0] if len(column) == 1 else list(column)
    return found


def recorded_rationales(values: Mapping[str, Any], end: str) -> tuple[Rationale, ...]:
    """From the columns of a labelled row again; () where it has none."""
    columns = [values.get(f"{name}{end}") for name in _TYPES]
    if columns[0] is None:
        return ()
    lists = [column if isinstance(column, list) else [column] for column in columns]
    return tuple(Rationale(*one) for one in zip(*lists, strict=True))
