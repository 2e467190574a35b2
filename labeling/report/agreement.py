"""How often verdicts agree with gold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from preftree.labeling.report.arrays import TIE, Choices, Mask
from preftree.labeling.report.intervals import interval_text, wilson_interval
from preftree.labeling.terminal import count


def decided(gold: Choices) -> Mask:
    """Where gold is A or B."""
    found: Mask = abs(gold) == 1
    return found


@dataclass
class Agreement:
    """Running figures over pairs whose gold is A or B; a verdict that ties counts as half an agreement.

    Attributes:
        pairs: such pairs.
        ties: their verdicts that tie.
        agreements: verdicts that agree, ties as halves.
    """

    pairs: int = 0
    ties: int = 0
    agreements: float = 0.0

    def add(self, verdict: Choices, gold: Choices) -> None:
        mask = decided(gold)
        verdict, gold = verdict[mask], gold[mask]
        ties = int(np.count_nonzero(verdict == TIE))
        self.pairs += len(gold)
        self.ties += ties
        self.agreements += int(np.count_nonzero(verdict == gold)) + ties / 2

    @property
    def share(self) -> float | None:
        return self.agreements / self.pairs if self.pairs else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of the share."""
        return wilson_interval(self.agreements, self.pairs) if self.pairs else None

    def figures(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "gold_pairs": self.pairs,
            "gold_ties": self.ties,
            "agreements": self.agreements,
            "agreement": self.share,
            "agreement_interval": self.interval,
        }

    def interval_text(self) -> str:
        return interval_text(self.agreements, self.pairs)

    def text(self) -> str:
        """ "85.0% of 20 pairs (95% interval 64.0% to 94.8%)"."""
        return f"{self.share:.1%} of {count(self.pairs, 'pair')} ({self.interval_text()})"

    def lines(self) -> list[tuple[str, str]]:
        if not self.pairs:
            return []
        half = f"; {count(self.ties, 'tie')} counted half" if self.ties else ""
        return [("agreement with gold", self.text() + half)]
