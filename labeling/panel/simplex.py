"""Least loss over weights that are 0 or above and sum to 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from preftree.labeling.report.arrays import Floats

_GAP = 1e-9
_STEPS = 10_000

Loss = Callable[[Floats], tuple[float, Floats]]
"""The loss at some weights, and its gradient there."""


def least(loss: Loss, size: int) -> Floats:
    """The weights of least loss, which must be convex, by exponentiated gradient descent (Kivinen and Warmuth 1997).

    It ends when the Frank-Wolfe gap, which the loss cannot be further from its least value than, is below 1e-9.
    """
    weights, rate = np.full(size, 1 / size), 1.0
    value, gradient = loss(weights)
    for _ in range(_STEPS):
        if weights @ gradient - gradient.min() <= _GAP:
            break
        while True:
            after = weights * np.exp(-rate * (gradient - gradient.min()))
            after /= after.sum()
            value_after, gradient_after = loss(after)
            if value_after <= value + gradient @ (after - weights) + _divergence(after, weights) / rate:
                break
            rate /= 2
        weights, value, gradient, rate = after, value_after, gradient_after, 2 * rate
    return weights


def _divergence(after: Floats, before: Floats) -> float:
    """Kullback-Leibler, in nats."""
    there = after > 0
    return float((after[there] * np.log(after[there] / before[there])).sum())
