"""Labels under sets of principles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preftree.labeling.types import ArrowType, Label


def set_columns(fields: Mapping[str, ArrowType]) -> dict[str, ArrowType]:
    """The columns of labels whose values are `fields`, a list of one entry a set."""
    return {"sets": [{"set": "string", **fields}]}


@dataclass(frozen=True)
class SetsLabel:
    """Labels of one sample.

    Attributes:
        names: of the sets.
        labels: under each of them, all of one kind.
        fields: what an entry holds beside the name of its set; None for what its label does not have.
    """

    names: tuple[str, ...]
    labels: tuple[Label, ...]
    fields: Mapping[str, ArrowType]

    @property
    def prompt_tokens(self) -> int:
        return sum(label.prompt_tokens for label in self.labels)

    def values(self) -> dict[str, Any]:
        entries = []
        for chosen, label in zip(self.names, self.labels, strict=True):
            values = label.values()
            entries.append({"set": chosen} | {name: values.get(name) for name in self.fields})
        return {"sets": entries}
