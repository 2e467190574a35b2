"""Win rates row by row; the regression on lengths by nested bisection, which shares nothing with Newton's method."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from preftree.labeling.report.intervals import wilson_interval
from preftree.labeling.types import Pair, Verdict

_Z = 1.959963984540054


@dataclass
class WinRateByRow:
    """A tie is half a win of A."""

    wins: list[float] = field(default_factory=list)
    p_a: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    def add(self, pair: Pair, verdict: Verdict, p_a: float | None) -> None:
        self.wins.append({"a": 1.0, "tie": 0.5, "b": 0.0}[verdict])
        self.p_a += [] if p_a is None else [p_a]
        self.ratios.append(len(pair.response_a) / len(pair.response_b))

    def figures(self) -> dict[str, Any] | None:
        if not self.wins:
            return None
        wins, fit = math.fsum(self.wins), at_equal_length(self.ratios, self.wins)
        adjusted = None
        if fit is not None:
            log_odds, error, slope = fit
            adjusted = {
                "pairs": len(self.wins),
                "share": sigmoid(log_odds),
                "interval": (sigmoid(log_odds - _Z * error), sigmoid(log_odds + _Z * error)),
                "log_odds_per_ratio": slope,
            }
        return {
            "pairs": len(self.wins),
            "wins": wins,
            "share": wins / len(self.wins),
            "interval": wilson_interval(wins, len(self.wins)),
            "mean_p_a": math.fsum(self.p_a) / len(self.p_a) if self.p_a else None,
            "length_adjusted": adjusted,
        }


def sigmoid(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds)) if log_odds > -700 else 0.0


def separates(ratios: Sequence[float], wins: Sequence[float]) -> bool:
    """Whether some ratio has all wins on one side and all losses on the other, itself on both."""
    won = [ratio for ratio, win in zip(ratios, wins, strict=True) if win > 0]
    lost = [ratio for ratio, win in zip(ratios, wins, strict=True) if win < 1]
    return any(
        all(sign * ratio >= sign * edge for ratio in won) and all(sign * ratio <= sign * edge for ratio in lost)
        for edge in set(ratios)
        for sign in (1, -1)
    )


def at_equal_length(ratios: Sequence[float], wins: Sequence[float]) -> tuple[float, float, float] | None:
    """Log-odds at ratio 1, their standard error, and the slope; None where there is no finite maximum.

    The likelihood is concave: for each slope the best intercept is where the residuals sum to 0, and the best slope is
    where their products with x then do.
    """
    if separates(ratios, wins):
        return None
    x, y = np.array(ratios) - 1, np.array(wins)

    def residuals(intercept: float, slope: float) -> Any:
        return y - 1 / (1 + np.exp(np.clip(-intercept - slope * x, -700, 700)))

    def best_intercept(slope: float) -> float:
        return root(lambda intercept: float(residuals(intercept, slope).sum()))

    slope = root(lambda one: float((residuals(best_intercept(one), one) * (x - x.mean())).sum()))
    intercept = best_intercept(slope)
    p = y - residuals(intercept, slope)
    design = np.stack((np.ones_like(x), x))
    covariance = np.linalg.inv((design * p * (1 - p)) @ design.T)
    return intercept, math.sqrt(covariance[0, 0]), slope


def root(falling: Callable[[float], float]) -> float:
    """Where a falling function is 0."""
    high = 1.0
    while falling(high) > 0:
        high *= 2
    low = -1.0
    while falling(low) < 0:
        low *= 2
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2
