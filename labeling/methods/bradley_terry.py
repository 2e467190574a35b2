"""How good each of several responses is, from comparisons of two (Bradley and Terry 1952)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from preftree.engine.errors import InputError

RIDGE = 1e-4
_TOLERANCE = 1e-10  # nats
_MAX_STEPS = 500


def strengths(wins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-strengths s in nats, their mean 0, such that P(i better than j) = 1 / (1 + exp(s_j - s_i)).

    wins: [n, n]; entry [i, j] is the share of a comparison that i won against j, and [j, i] the rest of it; nan where
    the two were not compared. The comparisons should connect all n.

    Maximises sum over compared i < j of wins_ij log P(i > j) + wins_ji log P(j > i), less RIDGE / 2 times the sum of
    s^2: a prior that keeps complete dominance finite (7.8 nats apart, of two) and moves p = 0.99 by 0.0002. Newton's
    method from 0, with the step length ln(1 + d) / d for steps that change differences of strengths by up to d, which
    converges from anywhere on a logistic likelihood (Sun and Tran-Dinh 2019); the last step is below 1e-10 nats.
    Raises InputError if 500 steps do not suffice.
    """
    compared = ~np.isnan(wins)
    won = np.where(compared, wins, 0.0)
    s = np.zeros(len(wins))
    for _ in range(_MAX_STEPS):
        with np.errstate(over="ignore"):  # infinite odds are a probability of 0
            p = compared / (1.0 + np.exp(s[None, :] - s[:, None]))
        gradient = (won - p).sum(axis=1) - RIDGE * s
        weight = p * p.T
        step = np.linalg.solve(np.diag(weight.sum(axis=1) + RIDGE) - weight, gradient)
        spread = float(np.ptp(step))
        s += step * (np.log1p(spread) / spread if spread else 1.0)
        s -= s.mean()
        if np.abs(step).max() <= _TOLERANCE:
            return s
    raise InputError("the strengths of these responses do not converge")
