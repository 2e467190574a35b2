"""What the two orders of one comparison say together."""

from __future__ import annotations

from typing import Any


def orders_agree(first: Any, second: Any, tie: float = 0.5) -> Any:
    """Whether both orders prefer the same response. An order that ties prefers none, so it agrees with nothing.

    Args:
        first: what is said of A with A shown first, a number or a NumPy array of them; NaN agrees with nothing.
        second: the same with A shown second.
        tie: above it A is better, below it B.
    """
    return ((first > tie) & (second > tie)) | ((first < tie) & (second < tie))
