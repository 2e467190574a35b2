"""Whether a probability means what it says: p_a against what gold says, in ten bins. Constant memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

BINS = 10


@dataclass
class Bin:
    """pairs: how many p_a fell in here. sum_p: of their p_a. gold_a: how many of them gold gives to A."""

    pairs: int = 0
    sum_p: float = 0.0
    gold_a: int = 0


@dataclass
class Calibration:
    """Reliability of p_a as a forecast of "gold is A", over pairs whose gold is A or B; gold ties are left out.

    Bin k holds p_a from k/10 to below (k + 1)/10, the last one 1 too: a label that ties is in the sixth.
    Brier score (Brier 1950): mean of (p_a - outcome)^2, 0.25 for one that always says 0.5. Expected calibration error
    (Naeini et al. 2015): over the bins, weighted by their pairs, |mean p_a - share of gold A|.
    """

    bins: list[Bin] = field(default_factory=lambda: [Bin() for _ in range(BINS)])
    _squares: float = 0.0

    def add(self, p_a: float, gold_is_a: bool) -> None:
        into = self.bins[min(int(p_a * BINS), BINS - 1)]
        into.pairs += 1
        into.sum_p += p_a
        into.gold_a += gold_is_a
        self._squares += (p_a - gold_is_a) ** 2

    @property
    def pairs(self) -> int:
        return sum(one.pairs for one in self.bins)

    @property
    def brier(self) -> float | None:
        return self._squares / self.pairs if self.pairs else None

    @property
    def expected_error(self) -> float | None:
        return sum(abs(one.sum_p - one.gold_a) for one in self.bins) / self.pairs if self.pairs else None

    def figures(self) -> dict[str, Any] | None:
        """For run.json: both figures, and the bins that hold pairs; None where there are none."""
        if not self.pairs:
            return None
        table = [
            {"from": k / BINS, "pairs": one.pairs, "mean_p_a": one.sum_p / one.pairs, "gold_a": one.gold_a / one.pairs}
            for k, one in enumerate(self.bins)
            if one.pairs
        ]
        return {"pairs": self.pairs, "brier": self.brier, "expected_calibration_error": self.expected_error} | {
            "bins": table
        }

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal: the figures, and a small table of the bins that hold pairs."""
        if not self.pairs:
            return []
        filled = [(k, one) for k, one in enumerate(self.bins) if one.pairs]
        table = {
            "p_a": [f"{k / BINS:.1f}-{(k + 1) / BINS:.1f}" for k, _ in filled],
            "gold is A": [f"{one.gold_a / one.pairs:.0%}" for _, one in filled],
            "pairs": [f"{one.pairs:,}" for _, one in filled],
        }
        width = max(len(cell) for cells in table.values() for cell in cells)
        text = f"expected error {self.expected_error:.3f}, Brier score {self.brier:.3f} (always 0.5 has 0.250)"
        rows = [f"{name:<9}" + "".join(f"  {cell:>{width}}" for cell in cells) for name, cells in table.items()]
        return [("calibration", line) for line in (text, *rows)]
