"""Which comparisons are exported, and how many were left out, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

from preftree.labeling.export.comparison import Comparison
from preftree.labeling.terminal import count

NO_LABEL = "no label"
NO_COMPARISON = "nothing compared: a single response, or a ranking in which all tie"
SAME_TEXT = "both responses are the same text"
TIE = "tie"
INCONSISTENT = "the orders disagree"


@dataclass
class Selection:
    """keep_ties: whether ties are exported. min_confidence: of the verdict, 0.5 to 1. drop_inconsistent: leave out what
    the two orders disagree on. left_out: by reason, the first one that holds.
    """

    keep_ties: bool = False
    min_confidence: float | None = None
    drop_inconsistent: bool = False
    kept: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    def takes(self, comparison: Comparison) -> bool:
        """Counts it, either way."""
        if reason := self._reason(comparison):
            self.leave_out(reason)
            return False
        self.kept += 1
        return True

    def leave_out(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def lines(self) -> list[str]:
        return [f"{count(number, 'pair')}: {reason}" for reason, number in self.left_out.items()]

    def _reason(self, comparison: Comparison) -> str | None:
        if comparison.response_a == comparison.response_b:
            return SAME_TEXT
        if comparison.verdict == "tie" and not self.keep_ties:
            return TIE
        confidence = comparison.confidence
        if self.min_confidence is not None and confidence is not None and confidence < self.min_confidence:
            return f"confidence below {self.min_confidence:g}"
        return INCONSISTENT if self.drop_inconsistent and comparison.consistent is False else None
