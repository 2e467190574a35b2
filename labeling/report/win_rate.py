"""How often response A wins: for pairs whose responses A are one policy's and whose responses B are another's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from preftree.labeling.report.arrays import Choices, Floats, known
from preftree.labeling.report.intervals import interval_text, wilson_interval
from preftree.labeling.report.length_adjustment import LengthAdjustment
from preftree.labeling.terminal import count


@dataclass
class WinRate:
    """Running figures over labelled pairs; a tie is half a win of A.

    Attributes:
        pairs: pairs with a verdict.
        wins: those that A wins, ties as halves.
        lengths: the regression on lengths, of the pairs whose lengths are known.
    """

    pairs: int = 0
    wins: float = 0.0
    lengths: LengthAdjustment = field(default_factory=LengthAdjustment)
    _probabilities: int = 0
    _p_a: float = 0.0

    def add(self, verdict: Choices, p_a: Floats | None, chars: Floats | None) -> None:
        """One entry a pair.

        Args:
            verdict: A, B or TIE.
            p_a: probability that A is better, NaN where it is not known; None where no pair has one.
            chars: [pairs, 2], characters of A and of B, NaN where they are not known; None where no pair has them.
        """
        wins = (verdict + 1) / 2  # A is 1, TIE 0, B -1
        self.pairs += len(verdict)
        self.wins += float(wins.sum())
        if p_a is not None:
            there = known(p_a)
            self._probabilities += int(np.count_nonzero(there))
            self._p_a += float(p_a[there].sum())
        if chars is not None:
            self.lengths.add(chars, wins)

    @property
    def share(self) -> float | None:
        return self.wins / self.pairs if self.pairs else None

    def figures(self) -> dict[str, Any] | None:
        """For run.json; None where there are no pairs.

        mean_p_a: the win rate without a threshold. length_adjusted: see `LengthAdjustment`.
        """
        if not self.pairs:
            return None
        return {
            "pairs": self.pairs,
            "wins": self.wins,
            "share": self.share,
            "interval": wilson_interval(self.wins, self.pairs),
            "mean_p_a": self._p_a / self._probabilities if self._probabilities else None,
            "length_adjusted": self.lengths.figures(),
        }

    def briefly(self) -> list[str]:
        """ "A wins 54.2%"; nothing where there are no pairs."""
        return [f"A wins {self.share:.1%}"] if self.pairs else []

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal: one line of at most 80 characters; none where there are no pairs."""
        if not self.pairs:
            return []
        text = f"{self.share:.1%} of {count(self.pairs, 'pair')} ({interval_text(self.wins, self.pairs)})"
        if self.lengths.pairs:
            at_equal = self.lengths.prediction()
            text += f"; {at_equal.share:.1%} at equal length" if at_equal else "; no length adjustment"
        return [("win rate of A", text)]
