"""Symmetric temperature: logit(q) = slope * logit(p).

There is no offset, so exchanging A and B gives exactly 1 - q and identical responses keep exactly 0.5. The slope is
1 / temperature (Guo et al. 2017): below 1 for a judge that is too sure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from preftree.engine.errors import InputError
from preftree.labeling.calibration.curve import mirrored
from preftree.labeling.grid import STEP
from preftree.labeling.report.arrays import Floats, Mask
from preftree.labeling.report.calibration import confidence, rightness
from preftree.labeling.report.intervals import Z_95

# A probability of 1 has been rounded; it is taken for the middle of what is rounded to it, so that its logit is finite.
_NEAREST = STEP / 2
_STEPS = 200
_SMALL_STEP = 1e-14


@dataclass(frozen=True)
class Temperature:
    """A fitted slope.

    Attributes:
        slope: 1 / temperature, 0 or above.
        error: its standard error, from the observed information; None where the slope was not fitted.
    """

    slope: float
    error: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of the slope (Wald); None where it was not fitted."""
        return None if self.error is None else (self.slope - Z_95 * self.error, self.slope + Z_95 * self.error)

    def at(self, p: float) -> float:
        """See `preftree.labeling.calibration.curve.Curve`."""
        return mirrored(p, lambda larger: 1.0 / (1.0 + math.exp(-self.slope * _logit(larger))))

    def record(self) -> dict[str, Any]:
        """Parameters, as JSON."""
        return {"slope": self.slope, "standard_error": self.error}

    @classmethod
    def recorded(cls, record: dict[str, Any]) -> Temperature:
        """From `record`. ValueError for a slope that is none."""
        slope, error = record["slope"], record["standard_error"]
        if not 0 < float(slope) < math.inf:
            raise ValueError(f"slope {slope}")
        return cls(float(slope), None if error is None else float(error))

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal."""
        if self.error is None or self.interval is None:
            why = "every verdict is right, which tells no temperature; probabilities stay as they are"
            return [("temperature", f"{1 / self.slope:.3f}: {why}")]
        low, high = self.interval
        text = f"{1 / self.slope:.3f} (logits times {self.slope:.3f}, 95% interval {low:.3f} to {high:.3f})"
        unsure = [("warning", "the interval reaches 0: the judge cannot be told from a coin")] if low <= 0 else []
        return [("temperature", text), *unsure]


def fitted(p_a: Floats, gold_is_a: Mask) -> Temperature:
    """The slope of maximum likelihood.

    Where every verdict is right there is no maximum; the slope is 1 then, and has no error. Raises InputError where it
    would be 0 or less, as the judge is wrong at least as surely as it is right.
    """
    logits = _signed_logits(p_a, gold_is_a)
    if not len(logits):
        raise InputError("every p_a with gold is 0.5, which no temperature changes; use another judge or template")
    if (logits > 0).all():
        return Temperature(1.0)
    if logits.sum() <= 0:
        raise InputError(
            f"the judge is no better than a coin on {len(logits):,} gold pairs: the surer it is, the more often it is "
            "wrong; no temperature mends that, use another judge or template"
        )
    slope = _slope(logits)
    return Temperature(slope, 1 / math.sqrt(-_derivatives(slope, logits)[1]))


def fitted_fold(p_a: Floats, gold_is_a: Mask) -> Temperature:
    """As `fitted`, of a part of the gold pairs: where no slope above 0 fits, one of 0, which says 0.5 to everything."""
    try:
        return fitted(p_a, gold_is_a)
    except InputError:
        return Temperature(0.0)


def _logit(larger: float) -> float:
    return math.log(larger / max(1.0 - larger, _NEAREST))


def _signed_logits(p_a: Floats, gold_is_a: Mask) -> Floats:
    """Above 0 where the verdict is right. Without pairs at 0.5, which say nothing of the slope."""
    logits = np.array([_logit(value) for value in confidence(p_a).tolist()], np.float64)
    found: Floats = (logits * (2 * rightness(p_a, gold_is_a) - 1))[p_a != 0.5]
    return found


def _slope(logits: Floats) -> float:
    """Newton's method in an interval that holds the maximum, halved where a step would leave it."""
    low, high = 0.0, 1.0
    while _derivatives(high, logits)[0] > 0:
        low, high = high, 2 * high
    slope = (low + high) / 2
    for _ in range(_STEPS):
        first, second = _derivatives(slope, logits)
        low, high = (slope, high) if first > 0 else (low, slope)
        step = slope - first / second if second < 0 else high
        after = step if low < step < high else (low + high) / 2
        if abs(after - slope) <= _SMALL_STEP * (1 + slope):
            return after
        slope = after
    return slope


def _derivatives(slope: float, logits: Floats) -> tuple[float, float]:
    """Of the log-likelihood, the sum of log sigmoid(slope * logit)."""
    half = np.tanh(slope * logits / 2)
    return float((logits * (1 - half)).sum()) / 2, -float((logits**2 * (1 - half) * (1 + half)).sum()) / 4
