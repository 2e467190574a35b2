"""What the plots show, counted over batches of rows in constant memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = Any
MAX_PLACES = 20


@dataclass
class Histogram:
    """Counts of values in bins of equal width.

    Attributes:
        low: where the first bin begins.
        high: where the last one ends, which holds this value, too.
        counts: of each bin.
    """

    low: float
    high: float
    counts: Array = field(default_factory=lambda: np.zeros(20, np.int64))

    def add(self, values: Array) -> None:
        """NaN is not counted; what is outside goes to the nearest bin."""
        inside = np.clip(values[~np.isnan(values)], self.low, self.high)
        self.counts += np.histogram(inside, len(self.counts), (self.low, self.high))[0]

    @property
    def edges(self) -> list[float]:
        return [float(edge) for edge in np.linspace(self.low, self.high, len(self.counts) + 1)]

    @property
    def total(self) -> int:
        return int(self.counts.sum())


@dataclass
class Directions:
    """Of judgements in both orders: which position they prefer, if any.

    Attributes:
        first: prefer what is shown first in both orders.
        second: prefer what is shown second in both orders.
        same: prefer the same response in both orders.
        tied: have no preference in at least one order.
    """

    first: int = 0
    second: int = 0
    same: int = 0
    tied: int = 0

    def add(self, p_first: Array, p_second: Array) -> None:
        """Probabilities of response A, shown first and shown second."""
        self.first += int(((p_first > 0.5) & (p_second < 0.5)).sum())
        self.second += int(((p_first < 0.5) & (p_second > 0.5)).sum())
        self.same += int(((p_first - 0.5) * (p_second - 0.5) > 0).sum())
        self.tied += int(((p_first == 0.5) | (p_second == 0.5)).sum())

    @property
    def total(self) -> int:
        return self.first + self.second + self.same + self.tied


@dataclass
class Share:
    """How many of some trials succeeded; half a success counts half."""

    trials: int = 0
    successes: float = 0.0

    def add(self, outcomes: Array) -> None:
        """NaN is not counted."""
        known = outcomes[~np.isnan(outcomes)]
        self.trials += len(known)
        self.successes += float(known.sum())


@dataclass
class Places:
    """Strengths by place of the ranking: mean and standard deviation.

    Attributes:
        count: of values of each place.
        mean: of each place.
    """

    count: Array = field(default_factory=lambda: np.zeros(MAX_PLACES, np.int64))
    mean: Array = field(default_factory=lambda: np.zeros(MAX_PLACES))
    _squares: Array = field(default_factory=lambda: np.zeros(MAX_PLACES))

    def add(self, values: list[float]) -> None:
        """values: the strongest first; those beyond the twentieth are not counted. Welford's update."""
        given = np.asarray(values[:MAX_PLACES])
        places = slice(len(given))
        self.count[places] += 1
        before = given - self.mean[places]
        self.mean[places] += before / self.count[places]
        self._squares[places] += before * (given - self.mean[places])

    @property
    def deviation(self) -> Array:
        """Standard deviation of each place; 0 for a place without values."""
        return np.sqrt(self._squares / np.maximum(self.count, 1))
