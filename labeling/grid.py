"""Multiples of 2^-52: of every probability p that is one, 1 - p is exact."""

from __future__ import annotations

STEP = 2.0**-52


def on_grid(value: float) -> float:
    """The nearest multiple of 2^-52."""
    return round(value / STEP) * STEP
