"""Multiples of 2^-52: of every probability p that is one, 1 - p is exact."""

from __future__ import annotations

from typing import Any

STEP = 2.0**-52


def on_grid(value: float) -> float:
    """The nearest multiple of 2^-52."""
    return round(value / STEP) * STEP


def all_on_grid(values: Any) -> Any:
    """`on_grid` of every number of a NumPy array."""
    import numpy as np

    return np.rint(values / STEP) * STEP + 0.0  # 0 has no sign
