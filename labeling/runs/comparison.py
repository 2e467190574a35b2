"""The answers of a run beside those of another time, to the bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from preftree.labeling.pipeline import Item
from preftree.labeling.terminal import count, one_line
from preftree.labeling.types import Answer, Rejected, RequestScores


@dataclass
class Comparison:
    """Sums over rows.

    Attributes:
        answers: compared.
        same: those with the same bits, behind the same rationale.
        largest: difference of a log-probability.
        rows: those that differ, and in what.
    """

    answers: int = 0
    same: int = 0
    largest: float = 0.0
    rows: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, then: Sequence[RequestScores], item: Item, now: Sequence[RequestScores]) -> None:
        """A row. item: rejected where it could not be asked again."""
        number = sum(len(scores.answers) for scores in then)
        self.answers += number
        if isinstance(item, Rejected):
            self.rows.append((name, one_line(item.reason)))
            return
        both = [
            pair
            for old, new in zip(then, now, strict=False)
            for pair in zip(old.answers, new.answers, strict=False)
            if old.prompt_tokens == new.prompt_tokens
        ]
        same = sum(_is_same(*pair) for pair in both)
        largest = max((_difference(*pair) for pair in both), default=0.0)
        self.same += same
        self.largest = max(self.largest, largest)
        if same < number:
            self.rows.append((name, f"{number - same:,} of {count(number, 'answer')}, by up to {largest:.3g}"))

    def record(self) -> dict[str, Any]:
        """For `--json`. None for a difference without end."""
        different = [{"row": name, "what": what} for name, what in self.rows]
        largest = self.largest if math.isfinite(self.largest) else None
        return {"answers": self.answers, "same": self.same, "largest_difference": largest, "different": different}

    def lines(self) -> list[tuple[str, str]]:
        """For `aligned`."""
        return [
            ("same bits", f"{self.same:,} of {count(self.answers, 'answer')}"),
            ("difference", f"{self.largest:.3g} at most, of a log-probability"),
            *(("differs", f"{name}: {what}") for name, what in self.rows),
        ]


def _is_same(then: Answer, now: Answer) -> bool:
    written = now.rationale
    if written is not None and then.rationale is not None and then.rationale.ids is None:
        written = replace(written, ids=None)
    return _bits(then) == _bits(now) and written == then.rationale


def _bits(answer: Answer) -> list[str]:
    return [number.hex() for number in (*answer.logprob, answer.label_mass)]


def _difference(then: Answer, now: Answer) -> float:
    differences = [abs(old - new) for old, new in zip(then.logprob, now.logprob, strict=False) if old != new]
    return max((math.inf if math.isnan(one) else one for one in differences), default=0.0)
