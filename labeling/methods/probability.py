"""Probabilities of one of two outcomes, on a grid on which 1 - p is exact: exchanging the outcomes flips every bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from preftree.labeling.grid import all_on_grid, on_grid


def probability(log_odds: float) -> float:
    """1 / (1 + exp(-log_odds)), on the grid: of -log_odds it is 1 less that, exactly. log_odds: in nats, finite."""
    odds = math.exp(-abs(log_odds))
    smaller = on_grid(odds / (1.0 + odds))
    return 1.0 - smaller if log_odds > 0 else smaller


def probabilities(log_odds: Any) -> Any:
    """`probability` of every number of a NumPy array, with the same bits."""
    import numpy as np

    # Python's exponential, as NumPy's has other bits, which depend on the processor.
    odds = np.fromiter(map(math.exp, (-np.abs(log_odds)).ravel().tolist()), np.float64, log_odds.size)
    smaller = all_on_grid(odds / (1.0 + odds)).reshape(log_odds.shape)
    return np.where(log_odds > 0, 1.0 - smaller, smaller)


def mean_probability(log_odds: Sequence[float]) -> float:
    """Mean of the probabilities of one or more log odds, on the grid."""
    if len(log_odds) == 1:
        return probability(log_odds[0])
    return on_grid(math.fsum(map(probability, log_odds)) / len(log_odds))


def mean_log_odds(log_odds: Sequence[float]) -> float:
    """Log odds of the mean of the probabilities, in nats; finite where these are, however sure they are.

    Those of one alone are its own, and those of negated ones are negated, exactly.
    """
    if len(log_odds) == 1:
        return log_odds[0]
    return _log_total(log_odds) - _log_total([-value for value in log_odds])


def _log_total(log_odds: Sequence[float]) -> float:
    """Logarithm of the sum of the probabilities."""
    logs = [min(value, 0.0) - math.log1p(math.exp(-abs(value))) for value in log_odds]
    largest = max(logs)
    return largest + math.log(math.fsum(math.exp(value - largest) for value in logs))
