"""How sure a share is."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054


def wilson_interval(successes: float, trials: int) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927): sane near 0 and 1 and for few trials. trials must be above 0."""
    share, square = successes / trials, Z_95**2
    scale = 1 + square / trials
    centre = (share + square / (2 * trials)) / scale
    half = Z_95 * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def interval_text(successes: float, trials: int) -> str:
    """For a terminal: "95% interval 49.0% to 94.3%"."""
    low, high = wilson_interval(successes, trials)
    return f"95% interval {low:.1%} to {high:.1%}"


def share(part: float, whole: float) -> float | None:
    """None of nothing."""
    return float(part) / float(whole) if whole else None
