"""Principles drawn at random by weight: a function of a key alone, so that no other row can change a draw."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate

import numpy as np


def uniforms(key: str, count: int) -> list[float]:
    """`count` numbers in [0, 1), multiples of 2^-53. From PCG64's raw stream, which NumPy promises never to change."""
    seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=32).digest(), "big")
    raw: list[int] = np.random.PCG64(seed).random_raw(count).tolist()
    return [(value >> 11) * 2.0**-53 for value in raw]


def pick(weights: Sequence[float], uniform: float) -> int:
    """An index with a probability proportional to its weight; their sum must be above 0."""
    largest = max(weights)  # lest the sum be infinite
    bounds = list(accumulate(weight / largest for weight in weights))
    return next(index for index, bound in enumerate(bounds) if uniform * bounds[-1] < bound)


def picks(weights: Sequence[float], numbers: Sequence[float]) -> tuple[int, ...]:
    """Different indices by weight, one for each of `numbers`, in the order in which they were drawn."""
    left = list(weights)
    chosen: list[int] = []
    for uniform in numbers:
        chosen.append(pick(left, uniform))
        left[chosen[-1]] = 0.0
    return tuple(chosen)
