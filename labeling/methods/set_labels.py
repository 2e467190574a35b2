"""Labels under sets of principles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.labeling.methods.score_labels import SCORE_FIELDS, DirectLabel
from preftree.labeling.types import ArrowType, PairLabel


@dataclass(frozen=True)
class PrincipledLabel:
    """Labels of a row.

    Attributes:
        names: of the sets.
        labels: under each of them, all of one kind.
        drawn: names of the principles that were drawn for the row; None where all rows have the same sets.
    """

    names: tuple[str, ...]
    labels: tuple[PairLabel | DirectLabel, ...]
    drawn: tuple[str, ...] | None = None

    FIELDS: ClassVar[Mapping[str, ArrowType]] = {"set": "string", **PairLabel.COLUMNS, **SCORE_FIELDS}
    COLUMNS: ClassVar[Mapping[str, ArrowType]] = {"sets": [dict(FIELDS)]}
    DRAWN_COLUMNS: ClassVar[Mapping[str, ArrowType]] = {"sets": [{**FIELDS, "principles": ["string"]}]}

    @property
    def prompt_tokens(self) -> int:
        return sum(label.prompt_tokens for label in self.labels)

    def values(self) -> dict[str, Any]:
        """Of a pair the fields of a score are None, and the other way round."""
        nothing: dict[str, Any] = dict.fromkeys(self.FIELDS)
        drawn = {} if self.drawn is None else {"principles": list(self.drawn)}
        return {
            "sets": [
                {name: (nothing | label.values() | {"set": chosen})[name] for name in self.FIELDS} | drawn
                for chosen, label in zip(self.names, self.labels, strict=True)
            ]
        }
