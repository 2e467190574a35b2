"""Whether a probability means what it says: the confidence of verdicts against how often they are right."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from preftree.labeling.report.arrays import Floats, Mask

BINS = 10
_EDGES = np.arange(BINS, 2 * BINS + 1) / (2 * BINS)
_SHOWN = 5


def confidence(p_a: Floats) -> Floats:
    """Of verdicts: max(p_a, 1 - p_a)."""
    found: Floats = np.maximum(p_a, 1 - p_a)
    return found


def rightness(p_a: Floats, gold_is_a: Mask) -> Floats:
    """1 where the verdict is that of gold, 0 where it is not, 0.5 where it ties."""
    return np.where(p_a == 0.5, 0.5, (p_a > 0.5) == gold_is_a)


def bins_of(confidences: Floats) -> NDArray[np.intp]:
    """The bin of each, from 0; see `Calibration`."""
    return np.clip(np.searchsorted(_EDGES, confidences, side="right") - 1, 0, BINS - 1)


class Calibration:
    """Reliability of verdicts, over pairs whose gold is A or B; gold ties are left out.

    The confidence of a verdict is max(p_a, 1 - p_a). So a figure does not depend on which response is called A, nor is
    it degenerate in files whose gold is always A. Bin k of ten holds confidences from 0.5 + k/20 to below the next, the
    last one 1 too. A label that ties has confidence 0.5 and is half right.

    Brier score (Brier 1950): mean of (p_a - [gold is A])^2, 0.25 for one that always says 0.5. Expected calibration
    error (Naeini et al. 2015): over the bins, weighted by their pairs, |mean confidence - share of right verdicts|.

    Attributes:
        counts: pairs in each bin.
        confidences: sum of their confidences.
        correct: how many of them are right.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.confidences = np.zeros(BINS)
        self.correct = np.zeros(BINS)
        self._squares = 0.0

    def add(self, p_a: Floats, gold_is_a: Mask) -> None:
        sure = confidence(p_a)
        place = bins_of(sure)
        self.counts += np.bincount(place, minlength=BINS)
        self.confidences += np.bincount(place, sure, BINS)
        self.correct += np.bincount(place, rightness(p_a, gold_is_a), BINS)
        self._squares += float(((p_a - gold_is_a) ** 2).sum())

    @property
    def pairs(self) -> int:
        return int(self.counts.sum())

    @property
    def brier(self) -> float | None:
        return self._squares / self.pairs if self.pairs else None

    @property
    def expected_error(self) -> float | None:
        return float(abs(self.confidences - self.correct).sum()) / self.pairs if self.pairs else None

    def figures(self) -> dict[str, Any] | None:
        """For run.json: both figures, and the bins that hold pairs; None where there are none."""
        if not self.pairs:
            return None
        table = [
            {
                "from": float(_EDGES[k]),
                "to": float(_EDGES[k + 1]),
                "pairs": int(number),
                "mean_confidence": float(self.confidences[k] / number),
                "correct": float(self.correct[k] / number),
            }
            for k, number in enumerate(self.counts)
            if number
        ]
        return {"pairs": self.pairs, "brier": self.brier, "expected_calibration_error": self.expected_error} | {
            "bins": table
        }

    def text(self) -> str:
        """Both figures, where there are pairs."""
        return f"expected error {self.expected_error:.3f}, Brier score {self.brier:.3f} (always 0.5 has 0.250)"

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal: the figures, and a small table of the bins that hold pairs, two of them in one."""
        if not self.pairs:
            return []
        counts, correct = (bins.reshape(_SHOWN, -1).sum(axis=1) for bins in (self.counts, self.correct))
        edges = _EDGES[:: BINS // _SHOWN]
        filled = [k for k in range(_SHOWN) if counts[k]]
        table = {
            "confidence": [f"{edges[k]:.1f}-{edges[k + 1]:.1f}" for k in filled],
            "right": [f"{correct[k] / counts[k]:.0%}" for k in filled],
            "pairs": [f"{counts[k]:,}" for k in filled],
        }
        width = max(len(cell) for cells in table.values() for cell in cells)
        rows = [f"{name:<10}" + "".join(f"  {cell:>{width}}" for cell in cells) for name, cells in table.items()]
        return [("calibration", line) for line in (self.text(), *rows)]
