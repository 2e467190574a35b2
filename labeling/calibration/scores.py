"""How good probabilities are against gold: log loss, Brier score and calibration error, with intervals.

All of them are the same whichever response is called A. Intervals are percentiles of a bootstrap over pairs (Efron
1979), moved by its bias: resampled pairs have a larger calibration error than the pairs themselves. Draws have a fixed
seed, so the same pairs have the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from preftree.labeling.calibration.curve import Curve, applied
from preftree.labeling.grid import STEP
from preftree.labeling.report.arrays import Floats, Mask
from preftree.labeling.report.calibration import bins_of, confidence, rightness

FOLDS = 5
_RESAMPLES = 1000
_SEED = 0
_PERCENTILES = (2.5, 97.5)
_NAMES = {"nll": "log loss", "brier": "Brier score", "ece": "expected error"}

Fit = Callable[[Floats, Mask], Curve]


class Figure(NamedTuple):
    """A figure, and its 95% interval."""

    value: float
    low: float
    high: float

    def text(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Scores:
    """Figures of some pairs.

    Attributes:
        nll: mean negative log-probability of gold, in nats; 0.693 for one that always says 0.5. A probability of 0 is
            taken for 2^-53.
        brier: mean of (p_a - [gold is A])^2.
        ece: see `preftree.labeling.report.calibration.Calibration`.
    """

    nll: Figure
    brier: Figure
    ece: Figure

    @classmethod
    def of(cls, p_a: Floats, gold_is_a: Mask) -> Scores:
        """One pair or more."""
        draws, pairs = np.random.default_rng(_SEED), len(p_a)
        losses = _Losses.of(p_a, gold_is_a)
        values = losses.means(np.ones(pairs))
        resampled = [
            losses.means(np.bincount(draws.integers(pairs, size=pairs), minlength=pairs).astype(np.float64))
            for _ in range(_RESAMPLES)
        ]
        moved = np.percentile(resampled, _PERCENTILES, axis=0) - np.mean(resampled, axis=0) + values
        bounds = np.maximum(moved, 0).T.tolist()
        return cls(*(Figure(value, *bound) for value, bound in zip(values, bounds, strict=True)))

    @classmethod
    def recorded(cls, record: dict[str, Sequence[float]]) -> Scores:
        """From `record`."""
        return cls(*(Figure(*record[name]) for name in _NAMES))

    def record(self) -> dict[str, Any]:
        """As JSON: of each figure its value and the ends of its interval."""
        return {name: list(figure) for name, figure in asdict(self).items()}


def cross_validated(fit: Fit, p_a: Floats, gold_is_a: Mask) -> Floats | None:
    """Each pair's probability by a curve that was fitted to the other folds; None for fewer than two pairs a fold."""
    if len(p_a) < 2 * FOLDS:
        return None
    fold = np.random.default_rng(_SEED).permutation(len(p_a)) % FOLDS
    found = np.empty(len(p_a))
    for number in range(FOLDS):
        mine = fold == number
        found[mine] = applied(fit(p_a[~mine], gold_is_a[~mine]), p_a[mine])
    return found


def score_lines(before: Scores, after: Scores | None) -> list[tuple[str, str]]:
    """For a terminal."""
    return [
        (name, getattr(before, field).text() + (f" -> {getattr(after, field).text()}" if after else ""))
        for field, name in _NAMES.items()
    ]


class _Losses(NamedTuple):
    """By pair: what the figures are means of. place: bin of its confidence. excess: confidence less rightness."""

    nll: Floats
    brier: Floats
    place: Any
    excess: Floats

    @classmethod
    def of(cls, p_a: Floats, gold_is_a: Mask) -> _Losses:
        of_gold = np.where(gold_is_a, p_a, 1.0 - p_a)
        sure = confidence(p_a)
        nll = -np.log(np.maximum(of_gold, STEP / 2))
        return cls(nll, (1.0 - of_gold) ** 2, bins_of(sure), sure - rightness(p_a, gold_is_a))

    def means(self, times: Floats) -> tuple[float, float, float]:
        """Log loss, Brier score and expected error, where each pair counts so many times."""
        # Not by BLAS, whose sums depend on the machine.
        sums = (times * self.nll).sum(), (times * self.brier).sum()
        error = abs(np.bincount(self.place, times * self.excess)).sum()
        nll, brier, ece = (float(one / times.sum()) for one in (*sums, error))
        return nll, brier, ece
