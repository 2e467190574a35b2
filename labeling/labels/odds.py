"""Probabilities of one of two outcomes, on a grid on which 1 - p is exact: exchanging the outcomes flips every bit."""

from __future__ import annotations

import math

_GRID = 2.0**52


def on_grid(value: float) -> float:
    """The nearest multiple of 2^-52."""
    return round(value * _GRID) / _GRID


def probability(log_odds: float) -> float:
    """1 / (1 + exp(-log_odds)), on the grid: of -log_odds it is 1 less that, exactly. log_odds: in nats, finite."""
    odds = math.exp(-abs(log_odds))
    smaller = on_grid(odds / (1.0 + odds))
    return 1.0 - smaller if log_odds > 0 else smaller
