"""How far two judges agree beyond chance."""

from __future__ import annotations

from typing import Any

import numpy as np


class PairwiseAgreement:
    """Running figures over pairs that two judges have labelled; a tie is a verdict of its own.

    Attributes:
        counts: [3, 3], by the verdict of the one and of the other: B, tie, A.
    """

    def __init__(self) -> None:
        self.counts = np.zeros((3, 3), np.int64)

    def add(self, one: Any, other: Any) -> None:
        """Verdicts as B, TIE or A of `preftree.labeling.report.arrays`."""
        self.counts += np.bincount(3 * (one + 1) + other + 1, minlength=9).reshape(3, 3)

    @property
    def pairs(self) -> int:
        return int(self.counts.sum())

    @property
    def raw(self) -> float | None:
        """The share of pairs with the same verdict."""
        return float(np.trace(self.counts)) / self.pairs if self.pairs else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (1960): 0 for what chance would give, 1 for the same verdicts.

        None where both always say the same one thing, as chance would, too.
        """
        if self.raw is None:
            return None
        chance = float(self.counts.sum(axis=0) @ self.counts.sum(axis=1)) / self.pairs**2
        return None if chance == 1 else (self.raw - chance) / (1 - chance)
