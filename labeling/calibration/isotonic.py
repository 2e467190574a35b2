"""Symmetrised isotonic regression: any rising curve that treats both responses alike.

The regression of the gold pairs together with their mirror images (1 - p_a, gold exchanged) is a curve that half a turn
leaves as it is. Its upper half is the isotonic regression of how often verdicts are right on how sure they are, but not
below 0.5; so only that half is computed, and the symmetry is exact.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from preftree.labeling.calibration.curve import mirrored
from preftree.labeling.report.arrays import Floats, Mask
from preftree.labeling.report.calibration import confidence, rightness


@dataclass(frozen=True)
class Isotonic:
    """Straight lines between knots, flat beyond the last.

    Attributes:
        knots: confidences, rising from 0.5.
        values: calibrated confidences at them, from 0.5, never falling.
    """

    knots: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, p: float) -> float:
        """See `preftree.labeling.calibration.curve.Curve`."""
        return mirrored(p, self._upper)

    def record(self) -> dict[str, Any]:
        """Parameters, as JSON."""
        return {"knots": list(self.knots), "values": list(self.values)}

    @classmethod
    def recorded(cls, record: dict[str, Any]) -> Isotonic:
        """From `record`. ValueError for knots that do not rise from 0.5 or values that fall."""
        knots, values = (tuple(map(float, record[name])) for name in ("knots", "values"))
        rises = all(a < b for a, b in pairwise(knots)) and all(a <= b for a, b in pairwise(values))
        if not (rises and len(knots) == len(values) and knots[:1] == values[:1] == (0.5,) and values[-1] <= 1):
            raise ValueError("its knots do not rise from 0.5 to at most 1")
        return cls(knots, values)

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal."""
        levels = len({*self.values} - {0.5})
        return [("isotonic", f"{levels:,} levels, confidences up to {self.values[-1]:.3f}")]

    def _upper(self, larger: float) -> float:
        place = bisect_left(self.knots, larger)
        if place == len(self.knots):
            return self.values[-1]
        (x0, x1), (y0, y1) = self.knots[place - 1 : place + 1], self.values[place - 1 : place + 1]
        return y1 if y0 == y1 else y0 + (y1 - y0) * ((larger - x0) / (x1 - x0))


def fitted(p_a: Floats, gold_is_a: Mask) -> Isotonic:
    """Least squares, not above (n + 1) / (n + 2): n pairs cannot tell what is beyond from certainty (Laplace)."""
    sure, places = np.unique(confidence(p_a), return_inverse=True)
    pairs = np.bincount(places).astype(np.float64)
    right = np.bincount(places, rightness(p_a, gold_is_a))
    levels = np.clip(_pooled(pairs.tolist(), right.tolist()), 0.5, (len(p_a) + 1) / (len(p_a) + 2))
    ends = _ends(levels.tolist())
    knots = [(float(sure[place]), float(levels[place])) for place in ends if sure[place] > 0.5]
    return Isotonic((0.5, *(knot for knot, _ in knots)), (0.5, *(value for _, value in knots)))


def _pooled(weights: Sequence[float], totals: Sequence[float]) -> Floats:
    """Pool adjacent violators: of neighbours whose means would fall, all get the mean of all. Means, one an entry."""
    blocks: list[tuple[float, float, int]] = []
    for weight, total in zip(weights, totals, strict=True):
        block = (weight, total, 1)
        while blocks and blocks[-1][1] * block[0] >= block[1] * blocks[-1][0]:
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2] + block[2])
        blocks.append(block)
    return np.repeat([total / weight for weight, total, _ in blocks], [size for _, _, size in blocks])


def _ends(levels: Sequence[float]) -> list[int]:
    """Where a level begins or ends."""
    last = len(levels) - 1
    return [
        place
        for place, level in enumerate(levels)
        if place in (0, last) or level != levels[place - 1] or level != levels[place + 1]
    ]
