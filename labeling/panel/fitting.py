"""A panel fitted to gold: each judge is calibrated, then their weights are.

Parameters: a temperature for each judge, weights that sum to 1, and how far these are drawn to equal ones, which is one
of five values. The last is chosen by the cross-validated log loss of the whole fit: with few gold pairs, equal weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from preftree.engine.errors import InputError
from preftree.labeling.calibration.curve import Curve, applied
from preftree.labeling.calibration.scores import FOLDS
from preftree.labeling.calibration.temperature import Temperature, fitted_fold
from preftree.labeling.grid import STEP
from preftree.labeling.panel.mixture import Mean, Mixture
from preftree.labeling.panel.simplex import least
from preftree.labeling.report.arrays import Floats, Mask
from preftree.labeling.terminal import count

SHRINKAGES = (1.0, 0.75, 0.5, 0.25, 0.0)
FEW = 100
_LEAST = 2 * FOLDS
_SEED = 0


@dataclass(frozen=True)
class Fit:
    """A fitted panel, and how good it is on gold pairs that it was not fitted to.

    Attributes:
        mixture: fitted to all gold pairs.
        slopes: of each judge's calibration; 0 for a judge that is no better than a coin.
        shrinkage: the share of equal weights in the weights.
        pairs: with gold, and labelled by every judge.
        losses: cross-validated log loss in nats, of the panel, of the same with equal weights, and of each judge
            alone, calibrated.
    """

    mixture: Mixture
    slopes: tuple[float, ...]
    shrinkage: float
    pairs: int
    losses: tuple[float, float, tuple[float, ...]]

    def record(self) -> dict[str, Any]:
        """For run.json."""
        panel, equal, judges = self.losses
        return {
            "gold_pairs": self.pairs,
            "shrinkage": self.shrinkage,
            "log_loss": {"panel": panel, "equal_weights": equal, "judges": list(judges)},
        }

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal."""
        panel, equal, judges = self.losses
        text = f"{panel:.3f} cross-validated on {count(self.pairs, 'gold pair')}"
        lines = [("log loss", f"{text}; {equal:.3f} with equal weights, {min(judges):.3f} of the best judge alone")]
        if self.pairs < FEW:
            lines.append(("warning", f"under {FEW} gold pairs: weights are little more than a guess"))
        return lines


def fit(said: Floats, gold_is_a: Mask, mean: Mean) -> Fit:
    """Fit a panel.

    Args:
        said: [pairs, judges], what each judge said.
        gold_is_a: of each pair.
        mean: of probabilities or of logits.

    Raises:
        InputError: there are too few pairs to fit on some and to look at others, or no judge is better than a coin.
    """
    pairs, judges = said.shape
    if pairs < _LEAST:
        raise InputError(
            f"{count(pairs, 'gold pair')} that every judge has labelled: too few to fit weights to, which needs "
            f"{_LEAST}; leave --gold and --weights out"
        )
    alone, by_shrinkage = _cross_validated(said, gold_is_a, mean)
    best = min(range(len(SHRINKAGES)), key=lambda place: float(by_shrinkage[place]))
    curves = [fitted_fold(said[:, judge], gold_is_a) for judge in range(judges)]
    if not any(curve.slope for curve in curves):
        raise InputError(
            f"no judge is better than a coin on {count(pairs, 'gold pair')}; combine others, or leave --gold and "
            "--weights out"
        )
    weights = _shrunk(_weights(_calibrated(curves, said), gold_is_a, mean), SHRINKAGES[best])
    return Fit(
        Mixture(tuple(weights.tolist()), tuple(curves), mean),
        tuple(curve.slope for curve in curves),
        SHRINKAGES[best],
        pairs,
        (float(by_shrinkage[best]), float(by_shrinkage[0]), tuple(alone.tolist())),
    )


def _cross_validated(said: Floats, gold_is_a: Mask, mean: Mean) -> tuple[Floats, Floats]:
    """Log loss of each judge alone, and of the panel by shrinkage, on folds that they were not fitted to."""
    pairs, judges = said.shape
    fold = np.random.default_rng(_SEED).permutation(pairs) % FOLDS
    alone, by_shrinkage = np.zeros(judges), np.zeros(len(SHRINKAGES))
    for number in range(FOLDS):
        mine = fold == number
        curves: list[Curve] = [fitted_fold(said[~mine, judge], gold_is_a[~mine]) for judge in range(judges)]
        weights = _weights(_calibrated(curves, said[~mine]), gold_is_a[~mine], mean)
        q, gold = _calibrated(curves, said[mine]), gold_is_a[mine]
        share = len(q) / pairs
        alone += share * np.array([_loss(q[:, [judge]], gold, mean, np.ones(1))[0] for judge in range(judges)])
        by_shrinkage += share * np.array([_loss(q, gold, mean, _shrunk(weights, one))[0] for one in SHRINKAGES])
    return alone, by_shrinkage


def _calibrated(curves: list[Temperature] | list[Curve], said: Floats) -> Floats:
    return np.stack([applied(curve, said[:, judge]) for judge, curve in enumerate(curves)], axis=1)


def _weights(q: Floats, gold_is_a: Mask, mean: Mean) -> Floats:
    return least(lambda weights: _loss(q, gold_is_a, mean, weights), q.shape[1])


def _shrunk(weights: Floats, shrinkage: float) -> Floats:
    found: Floats = (1 - shrinkage) * weights + shrinkage / len(weights)
    return found


def _loss(q: Floats, gold_is_a: Mask, mean: Mean, weights: Floats) -> tuple[float, Floats]:
    """Mean -log P(gold) in nats, and its gradient by the weights. Both means make it convex."""
    of_gold = np.maximum(np.where(gold_is_a[:, None], q, 1 - q), STEP / 2)
    if mean == "probability":
        total = of_gold @ weights
        return -float(np.log(total).mean()), -(of_gold / total[:, None]).mean(axis=0)
    logits = np.log(of_gold) - np.log(np.maximum(1 - of_gold, STEP / 2))
    sums = logits @ weights
    wrong = 1 / (1 + np.exp(np.clip(sums, -700, 700)))
    return float(np.logaddexp(0, -sums).mean()), -(wrong[:, None] * logits).mean(axis=0)
