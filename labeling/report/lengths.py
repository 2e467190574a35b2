"""Whether a judge likes long responses. Lengths are in characters. Constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from preftree.labeling.report.intervals import interval_text, wilson_interval
from preftree.labeling.types import Pair, Verdict


@dataclass
class LengthBias:
    """Running figures over labelled pairs; none of them depends on which response is called A.

    verdicts: pairs with a verdict other than a tie. decided: those of them whose responses differ in length; longer:
    those whose verdict is the longer one. gold_decided, gold_longer: the same of gold, to compare with.
    """

    verdicts: int = 0
    decided: int = 0
    longer: int = 0
    gold_decided: int = 0
    gold_longer: int = 0
    _chosen_minus_other: int = 0
    _lengths_squared: int = 0
    _leanings_squared: float = 0.0
    _products: float = 0.0

    def add(self, pair: Pair, p_a: float, verdict: Verdict) -> None:
        difference, leaning = len(pair.response_a) - len(pair.response_b), p_a - 0.5
        self._lengths_squared += difference * difference
        self._leanings_squared += leaning * leaning
        self._products += difference * leaning
        longer = "a" if difference > 0 else "b"
        if verdict != "tie":
            self.verdicts += 1
            self._chosen_minus_other += difference if verdict == "a" else -difference
            self.decided += difference != 0
            self.longer += difference != 0 and verdict == longer
        if pair.gold in ("a", "b") and difference:
            self.gold_decided += 1
            self.gold_longer += pair.gold == longer

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
