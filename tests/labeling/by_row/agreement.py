"""How many verdicts agree with gold, of all rows and by subset."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from preftree.labeling.report.intervals import wilson_interval
from preftree.labeling.types import Label, Sample

_MAX_CHARS = 60
MAX_VALUES = 50


def share(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole else None


@dataclass
class Agreement:
    """Pairs with a gold of a or b, and how many verdicts agree; a verdict that ties counts half."""

    pairs: int = 0
    agreements: float = 0.0

    def add(self, verdict: str, gold: str) -> None:
        self.pairs += 1
        self.agreements += 0.5 if verdict == "tie" else float(verdict == gold)

    def figures(self) -> dict[str, Any]:
        return {
            "pairs": self.pairs,
            "agreement": self.agreements / self.pairs,
            "agreement_interval": wilson_interval(self.agreements, self.pairs),
        }


class BySubset:
    """The figures of `whole`, and the agreement for each value of `column`, in the order in which values appear.

    The first 50 values are kept apart, the others together. Values are told by the first 60 characters of their text,
    which is JSON for all but strings; a row without the column has the value null.
    """

    def __init__(self, whole: Any, column: str) -> None:
        self._whole = whole
        self._column = column
        self._values: dict[str, Agreement] = {}
        self._others = Agreement()

    def add(self, sample: Sample, label: Label) -> None:
        self._whole.add(sample, label)
        gold = getattr(sample, "gold", None)
        if gold not in ("a", "b"):
            return
        value = sample.extra.get(self._column)
        text = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[:_MAX_CHARS]
        if text not in self._values and len(self._values) < MAX_VALUES:
            self._values[text] = Agreement()
        self._values.get(text, self._others).add(label.values()["verdict"], gold)

    def figures(self) -> dict[str, Any]:
        values = [{"value": text, **agreement.figures()} for text, agreement in self._values.items()]
        others = self._others.figures() if self._others.pairs else None
        return {**self._whole.figures(), "subsets": {"column": self._column, "values": values, "others": others}}
