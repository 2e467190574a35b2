"""What a panel says: a weighted mean of its judges' probabilities, and how far they are apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from preftree.labeling.calibration.curve import Curve
from preftree.labeling.grid import STEP, on_grid
from preftree.labeling.methods.probability import probability

Mean = Literal["probability", "logit"]


@dataclass(frozen=True)
class Mixture:
    """A mean over judges. Exchanging A and B gives exactly 1 - p, and where every judge says 0.5 it says 0.5.

    Sums are rounded once (`math.fsum`), so the order of the judges does not matter.

    Attributes:
        weights: of each judge, 0 or above; their sum is 1.
        curves: that calibrate each judge first; None for judges that are taken at their word.
        mean: of probabilities, or of their logits (a geometric mean of odds).
    """

    weights: tuple[float, ...]
    curves: tuple[Curve, ...] | None = None
    mean: Mean = "probability"

    @classmethod
    def equal(cls, judges: int, mean: Mean = "probability") -> Mixture:
        """Judges without calibration and with the same weight."""
        return cls((1 / judges,) * judges, None, mean)

    def calibrated(self, said: Sequence[float]) -> tuple[float, ...]:
        """Each judge's probability, as it counts. said: by each judge."""
        if self.curves is None:
            return tuple(map(on_grid, said))
        return tuple(curve.at(on_grid(p)) for curve, p in zip(self.curves, said, strict=True))

    def at(self, q: Sequence[float]) -> float:
        """The panel's probability. q: see `calibrated`."""
        if self.mean == "logit":
            return probability(math.fsum(w * log_odds(p) for w, p in zip(self.weights, q, strict=True)))
        return 0.5 + self._lean(q)

    def disagreement(self, q: Sequence[float]) -> float:
        """Jensen-Shannon divergence of the judges' verdicts under their weights, in bits: H(sum w q) - sum w H(q).

        It is the part of the uncertainty of their mixture that comes from their differing, and not from each being
        unsure: 0 where all say the same, however unsure, and 1 where two of equal weight are sure of the opposite. The
        variance of q does not keep these apart near 0 and 1, where little room is left.
        """
        of_mixture = entropy(0.5 + self._lean(q))
        return max(0.0, of_mixture - math.fsum(w * entropy(p) for w, p in zip(self.weights, q, strict=True)))

    def _lean(self, q: Sequence[float]) -> float:
        """Mean probability less 0.5; weights may sum to a little more than 1."""
        mean = on_grid(math.fsum(w * (p - 0.5) for w, p in zip(self.weights, q, strict=True)))
        return max(-0.5, min(0.5, mean))


def log_odds(p: float) -> float:
    """log(p / (1 - p)), finite: 1 is taken for the middle of what is rounded to it. Of 1 - p it is the negative."""
    return math.log(max(p, STEP / 2)) - math.log(max(1.0 - p, STEP / 2))


def entropy(p: float) -> float:
    """Of a verdict that is A with probability p, in bits."""
    return sum(-part * math.log2(part) for part in (p, 1.0 - p) if part > 0)
