"""A variance that does not depend on the order of its numbers."""

from __future__ import annotations


class Variance:
    """Population variance of the numbers added, exact until it is rounded once. Constant memory.

    Every float is a whole multiple of 2^-1074, so sums of them and of their squares are whole numbers.
    """

    def __init__(self) -> None:
        self.count = 0
        self._sum = self._squares = 0

    def add(self, number: float) -> None:
        """number: finite."""
        numerator, denominator = number.as_integer_ratio()
        whole = numerator << (1075 - denominator.bit_length())
        self.count += 1
        self._sum += whole
        self._squares += whole * whole

    def value(self) -> float:
        """0 where nothing was added. Python divides whole numbers of any length to the nearest float."""
        if not self.count:
            return 0.0
        return (self.count * self._squares - self._sum**2) / (self.count**2 << 2148)
