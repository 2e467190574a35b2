"""Labels under sets of principles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preftree.labeling.types import ArrowType, Label


def set_columns(fields: Mapping[str, ArrowType], are_drawn: bool = False) -> dict[str, ArrowType]:
    """The columns of labels whose values are `fields`: a list of one entry a set.

    are_drawn: whether each row has a set of its own, whose principles are named.
    """
    drawn: dict[str, ArrowType] = {"principles": ["string"]} if are_drawn else {}
    return {"sets": [{"set": "string", **fields, **drawn}]}


@dataclass(frozen=True)
class SetsLabel:
    """Labels of one sample.

    Attributes:
        names: of the sets.
        labels: under each of them, all of one kind.
        fields: what an entry holds beside the name of its set; None for what its label does not have.
        drawn: names of the principles that were drawn for the row; None where all rows have the same sets.
    """

    names: tuple[str, ...]
    labels: tuple[Label, ...]
    fields: Mapping[str, ArrowType]
    drawn: tuple[str, ...] | None = None

    @property
    def prompt_tokens(self) -> int:
        return sum(label.prompt_tokens for label in self.labels)

    def values(self) -> dict[str, Any]:
        drawn = {} if self.drawn is None else {"principles": list(self.drawn)}
        entries = []
        for chosen, label in zip(self.names, self.labels, strict=True):
            values = label.values()
            entries.append({"set": chosen} | {name: values.get(name) for name in self.fields} | drawn)
        return {"sets": entries}
