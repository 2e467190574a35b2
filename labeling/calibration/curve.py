"""What a calibration makes of a probability: a curve that half a turn around (0.5, 0.5) leaves as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from preftree.labeling.grid import STEP, on_grid
from preftree.labeling.report.arrays import Floats


class Curve(Protocol):
    """Calibrated probabilities by probabilities: q(0.5) is 0.5, and q(1 - p) is 1 - q(p) to the bit.

    q is on the same side of 0.5 as p, so a verdict never changes.
    """

    def at(self, p: float) -> float:
        """q(p)."""

    def record(self) -> dict[str, Any]:
        """Parameters, as JSON."""

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal: name and text."""


def applied(curve: Curve, p: Floats) -> Floats:
    """q(p) of each, the same bits as of one alone: NumPy's logarithms depend on how many there are."""
    return np.array([curve.at(value) for value in p.tolist()], np.float64)


def mirrored(p: float, upper: Callable[[float], float]) -> float:
    """q(p), from a curve of the larger of p and 1 - p.

    upper: q(c) for c above 0.5. Where it says 0.5 or less, q is the next multiple of 2^-52 above.
    """
    if p == 0.5:
        return 0.5
    q = max(on_grid(upper(max(p, 1.0 - p))), 0.5 + STEP)
    return q if p > 0.5 else 1.0 - q
