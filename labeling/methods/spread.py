"""How widely scores by principle are spread over the rows of a run (SALMON, Sun et al. 2023)."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable


class Spread:
    """Variances of scores in single orders, two of every row, whether these agree or not.

    So the released code has it: means of two orders would vary the less the more the orders disagree. Takes 16 bytes
    of memory a principle and row.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._scores = {name: array("d") for name in names}

    def add(self, name: str, s12: float, s21: float) -> None:
        """What a principle says of a row, in both orders."""
        self._scores[name].extend((s12, s21))

    def variances(self) -> dict[str, float]:
        """By principle; 0 for one without scores."""
        return {name: variance(numbers) for name, numbers in self._scores.items()}


def variance(numbers: array[float]) -> float:
    """Of a population, whatever the order of its numbers: both sums are exact until they are rounded once."""
    if not numbers or min(numbers) == max(numbers):
        return 0.0
    mean = math.fsum(numbers) / len(numbers)
    return math.fsum((number - mean) ** 2 for number in numbers) / len(numbers)
