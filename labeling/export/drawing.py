"""What preference instructions leave to chance, and how a preference follows from it (SALMON, Sun et al. 2023).

A draw is a function of seed, pass and row id alone, so that neither other rows nor their order can change it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np

Side = Literal["a", "b"]
GEOMETRIC_P, GEOMETRIC_MAX = 0.2, 8


@dataclass(frozen=True)
class Recipe:
    """weights: of each principle, 0 for one that is never drawn. number: how many to draw, or None for a geometric law:
    1, 2, 3, ... with probabilities that fall by a fifth each, up to 8 or as many as can be drawn. negate: probability
    that a drawn principle is negated. noise: that a preference is flipped.
    """

    weights: tuple[float, ...]
    number: int | None
    negate: float
    noise: float
    seed: int

    @property
    def drawable(self) -> int:
        """How many principles can be drawn."""
        return sum(weight > 0 for weight in self.weights)


@dataclass(frozen=True)
class Draw:
    """chosen: indices of principles, in the order in which they were drawn. negated: of each. flipped: by noise."""

    chosen: tuple[int, ...]
    negated: tuple[bool, ...]
    flipped: bool


def draw(recipe: Recipe, turn: int, identity: str) -> Draw:
    """Principles by weight, without replacement, for the row `identity` in pass `turn`.

    Every choice has a random number of its own, used or not: with more noise more preferences flip, and all else stays.
    """
    size = len(recipe.weights)
    numbers = uniforms(f"{recipe.seed}/{turn}/{identity}", 2 + 2 * size)
    how_many, noise, picks, negations = numbers[0], numbers[1], numbers[2 : 2 + size], numbers[2 + size :]
    number = recipe.number
    if number is None:
        law = [(1 - GEOMETRIC_P) ** k for k in range(min(GEOMETRIC_MAX, recipe.drawable))]
        number = 1 + _pick(law, how_many)
    left = list(recipe.weights)
    chosen = []
    for uniform in picks[:number]:
        chosen.append(_pick(left, uniform))
        left[chosen[-1]] = 0.0
    negated = tuple(uniform < recipe.negate for uniform in negations[:number])
    return Draw(tuple(chosen), negated, noise < recipe.noise)


def decide(scores: Sequence[float], negated: Sequence[bool]) -> tuple[int, Side] | None:
    """(index, side): the principle with the largest absolute score decides, the first of those that tie; its side is
    the one it prefers, or the other if it is negated. None where all scores are 0. scores: of A over B.
    """
    decider = max(range(len(scores)), key=lambda index: abs(scores[index]))
    if scores[decider] == 0:
        return None
    return decider, "a" if (scores[decider] > 0) != negated[decider] else "b"


def uniforms(key: str, count: int) -> list[float]:
    """`count` numbers in [0, 1), multiples of 2^-53. From PCG64's raw stream, which NumPy promises never to change."""
    seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=32).digest(), "big")
    raw: list[int] = np.random.PCG64(seed).random_raw(count).tolist()
    return [(value >> 11) * 2.0**-53 for value in raw]


def _pick(weights: Sequence[float], uniform: float) -> int:
    """An index with a probability proportional to its weight; their sum must be above 0."""
    largest = max(weights)  # lest the sum be infinite
    bounds = list(accumulate(weight / largest for weight in weights))
    return next(index for index, bound in enumerate(bounds) if uniform * bounds[-1] < bound)
