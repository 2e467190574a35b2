"""How much the place of a response counts: pairs by what both orders prefer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from preftree.labeling.orders import orders_agree
from preftree.labeling.report.agreement import Agreement
from preftree.labeling.report.arrays import Choices, Floats
from preftree.labeling.report.intervals import share
from preftree.labeling.terminal import count


def verb(number: int) -> str:
    """ "1 pair prefers", "2 pairs prefer"."""
    return "prefers" if number == 1 else "prefer"


@dataclass
class Positions:
    """Running figures over pairs that were judged in both orders.

    A pair keeps its position when both orders prefer the response shown in the same place (Lee et al. 2023,
    section 4.3), and is consistent when they prefer the same response.

    Attributes:
        pairs: so far.
        kept_first: that keep the first position.
        kept_second: that keep the second.
        consistent: that are.
        gold: agreement of the consistent ones.
    """

    pairs: int = 0
    kept_first: int = 0
    kept_second: int = 0
    consistent: int = 0
    gold: Agreement = field(default_factory=Agreement)
    _gap: float = 0.0
    _absolute_gap: float = 0.0

    def add(self, first: Floats, second: Floats, verdict: Choices, gold: Choices | None) -> None:
        """first, second: probability that A is better, with A shown first and second."""
        gap = first - second
        same = orders_agree(first, second)
        self.pairs += len(gap)
        self.kept_first += int(np.count_nonzero((first > 0.5) & (second < 0.5)))
        self.kept_second += int(np.count_nonzero((first < 0.5) & (second > 0.5)))
        self.consistent += int(np.count_nonzero(same))
        self._gap += float(gap.sum())
        self._absolute_gap += float(abs(gap).sum())
        if gold is not None:
            self.gold.add(verdict[same], gold[same])

    @property
    def kept(self) -> int:
        return self.kept_first + self.kept_second

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count.

        prefers_first: of the pairs that keep their position, the share that prefers the first.
        """
        return {
            "position_bias": share(self.kept, self.pairs),
            "prefers_first": share(self.kept_first, self.kept),
            "mean_gap": share(self._gap, self.pairs),
            "mean_absolute_gap": share(self._absolute_gap, self.pairs),
            "consistent": share(self.consistent, self.pairs),
            "consistent_gold": self.gold.figures() if self.gold.pairs else None,
        }

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal."""
        if not self.pairs:
            return []
        bias = f"{self.kept / self.pairs:.1%}: {count(self.kept, 'pair')} of {self.pairs:,}"
        bias += f" {verb(self.kept)} the same position in both orders"
        if self.kept:
            bias += f" ({self.kept_first:,} the first, {self.kept_second:,} the second)"
        gap = f"mean {self._gap / self.pairs:+.3f}, mean size {self._absolute_gap / self.pairs:.3f}"
        same = f"{self.consistent / self.pairs:.1%}: {count(self.consistent, 'pair')} of {self.pairs:,}"
        same += f" {verb(self.consistent)} the same response in both orders"
        if self.gold.pairs:
            same += f"; gold agrees with {self.gold.text()}"
        return [("position bias", bias), ("position gap", gap), ("consistent", same)]
