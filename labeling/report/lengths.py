"""Whether a judge likes long responses. Lengths are in characters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from preftree.labeling.report.agreement import decided
from preftree.labeling.report.arrays import TIE, Choices, Floats, known
from preftree.labeling.report.intervals import interval_text, wilson_interval


@dataclass
class LengthBias:
    """Running figures over labelled pairs; none of them depends on which response is called A.

    Attributes:
        verdicts: pairs with a verdict other than a tie.
        decided: those of them whose responses differ in length.
        longer: those of these whose verdict is the longer one.
        gold_decided: as `decided`, of gold.
        gold_longer: as `longer`, of gold.
    """

    verdicts: int = 0
    decided: int = 0
    longer: int = 0
    gold_decided: int = 0
    gold_longer: int = 0
    _chosen_minus_other: int = 0
    _lengths_squared: float = 0.0
    _leanings_squared: float = 0.0
    _products: float = 0.0

    def add(self, difference: Floats, p_a: Floats, verdict: Choices, gold: Choices | None) -> None:
        """difference: characters of A less those of B. It and p_a are NaN where they are not known."""
        there = known(difference)
        difference, leaning, verdict = difference[there], np.nan_to_num(p_a[there] - 0.5), verdict[there]
        self._lengths_squared += float((difference * difference).sum())
        self._leanings_squared += float((leaning * leaning).sum())
        self._products += float((difference * leaning).sum())
        longer, judged = np.sign(difference), verdict != TIE
        self.verdicts += int(np.count_nonzero(judged))
        self._chosen_minus_other += int((difference * verdict).sum())
        self.decided += int(np.count_nonzero(judged & (longer != 0)))
        self.longer += int(np.count_nonzero(judged & (longer == verdict)))
        if gold is not None:
            gold = gold[there]
            self.gold_decided += int(np.count_nonzero(decided(gold) & (longer != 0)))
            self.gold_longer += int(np.count_nonzero(decided(gold) & (longer == gold)))

    @property
    def share(self) -> float | None:
        """Of the verdicts between responses of different length: those that choose the longer."""
        return self.longer / self.decided if self.decided else None

    @property
    def gold_share(self) -> float | None:
        return self.gold_longer / self.gold_decided if self.gold_decided else None

    @property
    def mean_difference(self) -> float | None:
        """Characters that the chosen response has more than the other, over all verdicts."""
        return self._chosen_minus_other / self.verdicts if self.verdicts else None

    @property
    def correlation(self) -> float | None:
        """Pearson's, between p_a - 0.5 and the length of A minus that of B.

        Every pair counts both ways round, so that both means are 0: sum(xy) / sqrt(sum(x^2) sum(y^2)).
        """
        scale = math.sqrt(self._lengths_squared) * math.sqrt(self._leanings_squared)
        return self._products / scale if scale else None

    def figures(self) -> dict[str, Any] | None:
        """For run.json; None where no verdict had lengths to choose between."""
        if not self.decided:
            return None
        return {
            "verdicts": self.decided,
            "chose_longer": self.share,
            "chose_longer_interval": wilson_interval(self.longer, self.decided),
            "gold_chose_longer": self.gold_share,
            "mean_chosen_minus_other": self.mean_difference,
            "correlation": self.correlation,
        }

    def lines(self) -> list[tuple[str, str]]:
        if not self.decided:
            return []
        text = f"{self.share:.1%} of {self.decided:,} verdicts choose the longer response"
        text += f" ({interval_text(self.longer, self.decided)})"
        if self.gold_share is not None:
            text += f"; gold {self.gold_share:.1%}"
        more = f"chosen minus other: mean {self.mean_difference:+,.0f} characters"
        if self.correlation is not None:
            more += f"; correlation of length and p_a {self.correlation:+.2f}"
        return [("length bias", text), ("length bias", more)]
