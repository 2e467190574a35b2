"""Agreement with gold by the values of an input column. Constant memory: so many values, each cut short."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import UsageError
from preftree.labeling.data.dataset import DatasetInfo
from preftree.labeling.report.intervals import interval_text, wilson_interval
from preftree.labeling.report.pairs import Quality
from preftree.labeling.terminal import count, one_line
from preftree.labeling.types import ArrowType, Label, Sample

MAX_VALUES = 50
_MAX_CHARS = 60
OTHERS = "all other values"


def check_subset(found: DatasetInfo, columns: Mapping[str, ArrowType], column: str) -> None:
    """UsageError where there is nothing to compare by `column`. columns: those of the method's labels."""
    if "verdict" not in columns:
        raise UsageError("--by compares verdicts with gold, and this method gives no verdicts")
    if column not in found.columns:
        names = ", ".join(one_line(name) for name in found.columns) or "no such column"
        raise UsageError(f"{found.name} has no column {one_line(column)} to go --by; it has {names}")
    if not found.has_gold:
        raise UsageError(f"{found.name} has no gold, and --by compares verdicts with gold")


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

    def text(self) -> str:
        share = self.agreements / self.pairs
        return f"{share:.1%} of {count(self.pairs, 'pair')} ({interval_text(self.agreements, self.pairs)})"


class BySubset:
    """The figures of `whole`, and the agreement for each value of `column`, in the order in which values appear.

    The first 50 values are kept apart, the others together. Values are told by the first 60 characters of their text,
    which is JSON for all but strings; a row without the column has the value null.
    """

    def __init__(self, whole: Quality, column: str) -> None:
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

    def lines(self) -> list[tuple[str, str]]:
        named = [(one_line(text), agreement) for text, agreement in self._values.items()]
        if self._others.pairs:
            named.append((OTHERS, self._others))
        width = max((len(name) for name, _ in named), default=0)
        by = f"by {one_line(self._column)[:_MAX_CHARS]}"
        return self._whole.lines() + [(by, f"{name:<{width}}  {agreement.text()}") for name, agreement in named]
