"""Mean, variance and correlation, a batch at a time."""

from __future__ import annotations

import numpy as np

from preftree.labeling.report.arrays import Floats


class Spread:
    """Means of vectors, and sums of products of what differs from the means (Chan et al. 1983).

    Attributes:
        count: vectors.
        mean: [size].
        products: [size, size], divided by `count` the covariance of this population.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean = np.zeros(size)
        self.products = np.zeros((size, size))

    def add(self, values: Floats) -> None:
        """values: [vectors, size]."""
        if not len(values):
            return
        mean = values.mean(axis=0)
        centred = values - mean
        gap, total = mean - self.mean, self.count + len(values)
        # Not a product of BLAS, whose last bits depend on the number of threads.
        self.products += np.einsum("ki,kj->ij", centred, centred)
        self.products += np.outer(gap, gap) * (self.count * len(values) / total)
        self.mean += gap * (len(values) / total)
        self.count = total

    def correlations(self) -> Floats:
        """nan for what does not vary."""
        spread = np.sqrt(self.products.diagonal())
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = (self.products / np.outer(spread, spread)).clip(-1.0, 1.0)
        return found
