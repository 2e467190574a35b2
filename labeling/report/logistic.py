"""Logistic regression of successes on one number, by Newton's method."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from preftree.labeling.report.arrays import Floats
from preftree.labeling.report.intervals import Z_95

_MAX_STEPS = 100
_MAX_HALVINGS = 40
_SMALL_STEP = 1e-7  # the one after it is below the precision of float64


@dataclass(frozen=True)
class Prediction:
    """What a fitted regression predicts at one point.

    Attributes:
        log_odds: of success at the point.
        error: standard error of `log_odds`, from the Fisher information.
        slope: change of the log-odds for each unit of x.
    """

    log_odds: float
    error: float
    slope: float

    @property
    def share(self) -> float:
        return _sigmoid(self.log_odds)

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the share: that of the log-odds (Wald), transformed, so that it stays from 0 to 1."""
        return _sigmoid(self.log_odds - Z_95 * self.error), _sigmoid(self.log_odds + Z_95 * self.error)


def predict(x: Floats, trials: Floats, successes: Floats, at: float) -> Prediction | None:
    """Maximum likelihood of log-odds = b0 + b1 * x, and what it predicts at x = `at`.

    Newton's steps are halved while the likelihood falls, so that they converge from anywhere.

    Args:
        x: finite numbers.
        trials: at each of them, above 0.
        successes: of the trials; halves are allowed.
        at: the point.

    Returns:
        None where no finite maximum exists, as x is constant, or a threshold of x separates successes from failures;
        or where float64 does not find it, as x spans ten orders of magnitude or more.
    """
    if not _overlap(x, trials, successes):
        return None
    total = trials.sum()
    centre = float((trials * x).sum() / total)
    scale = math.sqrt(float((trials * (x - centre) ** 2).sum() / total))
    # Nearly separated data overflow on the way; what is not finite then is no fit.
    with np.errstate(all="ignore"):
        return _newton((x - centre) / scale, trials, successes, (at - centre) / scale, scale)


def _overlap(x: Floats, trials: Floats, successes: Floats) -> bool:
    """Whether the maximum is finite: neither successes nor failures have the larger x throughout."""
    won, lost = x[successes > 0], x[successes < trials]
    return bool(len(won) and len(lost) and won.min() < lost.max() and lost.min() < won.max())


def _newton(z: Floats, trials: Floats, successes: Floats, at: float, scale: float) -> Prediction | None:
    """z: x with mean 0 and variance 1. scale: the standard deviation of x."""
    intercept, slope, converged = 0.0, 0.0, False
    likelihood = _log_likelihood(intercept + slope * z, trials, successes)
    for _ in range(_MAX_STEPS):
        # p (1 - p) and p without differences of what is nearly equal.
        half = np.tanh((intercept + slope * z) / 2)
        weights, residuals = trials * (1 - half) * (1 + half) / 4, successes - trials * (1 + half) / 2
        weight = float(weights.sum())
        mean = float((weights * z).sum()) / weight if weight else math.nan
        spread = float((weights * (z - mean) ** 2).sum())
        if not spread > 0:
            return None
        if converged:
            error = math.sqrt(1 / weight + (at - mean) ** 2 / spread)
            found = Prediction(intercept + slope * at, error, slope / scale)
            return found if all(map(math.isfinite, vars(found).values())) else None
        slope_step = float((residuals * (z - mean)).sum()) / spread
        step = float(residuals.sum()) / weight - mean * slope_step
        converged = max(abs(step), abs(slope_step)) <= _SMALL_STEP * (1 + abs(intercept) + abs(slope))
        for _ in range(_MAX_HALVINGS):
            after = _log_likelihood(intercept + step + (slope + slope_step) * z, trials, successes)
            if after >= likelihood - 1e-12 * abs(likelihood):
                break
            step, slope_step = step / 2, slope_step / 2
        intercept, slope, likelihood = intercept + step, slope + slope_step, after
    return None


def _log_likelihood(log_odds: Floats, trials: Floats, successes: Floats) -> float:
    return float((successes * log_odds - trials * np.logaddexp(0.0, log_odds)).sum())


def _sigmoid(log_odds: float) -> float:
    return 0.5 + 0.5 * math.tanh(log_odds / 2)
