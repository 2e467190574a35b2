"""Means of judges: exact symmetry, disagreement, and weights that a general optimiser finds, too."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from preftree.labeling.calibration.temperature import Temperature
from preftree.labeling.panel.fitting import SHRINKAGES, fit
from preftree.labeling.panel.mixture import Mean, Mixture, entropy, log_odds
from preftree.labeling.panel.simplex import least
from preftree.labeling.report.arrays import Floats, Mask

MEANS: tuple[Mean, ...] = ("probability", "logit")


def drawn(judges: int, seed: int) -> tuple[float, ...]:
    """Probabilities as methods give them: multiples of 2^-52, some of them 0 or 1."""
    draws = random.Random(seed)
    return tuple(draws.choice((0.0, 1.0, draws.getrandbits(52) / 2**52)) for _ in range(judges))


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("is_calibrated", [False, True])
def test_exchanging_responses_gives_exactly_one_minus_p(mean: Mean, is_calibrated: bool) -> None:
    """Catches a sum, a logarithm or a weight that rounds one way for A and another for B."""
    curves = (Temperature(0.3), Temperature(2.5), Temperature(0.0)) if is_calibrated else None
    mixture = Mixture((0.2, 0.7, 0.1), curves, mean)
    for seed in range(500):
        said = drawn(3, seed)
        q, mirrored = mixture.calibrated(said), mixture.calibrated([1.0 - p for p in said])
        assert mixture.at(mirrored) == 1.0 - mixture.at(q)
        assert 0.0 <= mixture.at(q) <= 1.0
        assert mixture.disagreement(mirrored) == mixture.disagreement(q)
    assert mixture.at(mixture.calibrated((0.5, 0.5, 0.5))) == 0.5
    assert mixture.disagreement((0.5, 0.5, 0.5)) == 0.0


@pytest.mark.parametrize("mean", MEANS)
def test_the_order_of_judges_does_not_matter(mean: Mean) -> None:
    """Catches a sum whose bits depend on who was named first."""
    for seed in range(200):
        said = drawn(5, seed)
        assert Mixture.equal(5, mean).at(said) == Mixture.equal(5, mean).at(said[::-1])


def test_means_are_what_they_are_called() -> None:
    """Catches one mean given for the other."""
    assert Mixture((0.25, 0.75)).at((0.9, 0.5)) == pytest.approx(0.6, abs=1e-15)
    odds = math.exp(0.25 * math.log(9))
    assert Mixture((0.25, 0.75), None, "logit").at((0.9, 0.5)) == pytest.approx(odds / (1 + odds), abs=1e-15)


def test_disagreement_is_the_jensen_shannon_divergence() -> None:
    """Catches a divergence that another package does not give, or one in nats."""
    distance = pytest.importorskip("scipy.spatial.distance")
    for p, q in ((0.9, 0.2), (0.99, 0.999), (0.0, 1.0), (0.3, 0.3)):
        theirs = distance.jensenshannon([p, 1 - p], [q, 1 - q], base=2) ** 2
        assert Mixture.equal(2).disagreement((p, q)) == pytest.approx(theirs, abs=1e-12)
    assert Mixture.equal(2).disagreement((0.0, 1.0)) == 1.0
    assert entropy(0.5) == 1.0


def simulated(pairs: int, slopes: tuple[float, ...], seed: int = 0) -> tuple[Floats, Mask]:
    """Judges of the same pairs, whose logits are independent evidence; slope: by how much each overstates it."""
    draws = np.random.default_rng(seed)
    gold = draws.random(pairs) < 0.5
    evidence = np.where(gold[:, None], 1.0, -1.0) + draws.normal(0, 1.5, (pairs, len(slopes)))
    logits = 2 * evidence / 1.5**2 * np.array(slopes)
    return np.round(2**52 / (1 + np.exp(-logits))) / 2**52, gold


@pytest.mark.parametrize("mean", MEANS)
def test_weights_have_the_least_loss_on_the_simplex(mean: Mean) -> None:
    """Catches a solver that stops early, and one that cannot reach a weight of 0."""
    optimize = pytest.importorskip("scipy.optimize")
    said, gold = simulated(400, (1.0, 0.6, 1.5))
    said = np.column_stack([said, np.random.default_rng(1).random(400)])  # and one that knows nothing

    def loss(weights: Floats) -> float:
        p = said @ weights if mean == "probability" else 1 / (1 + np.exp(-np.vectorize(log_odds)(said) @ weights))
        return -float(np.log(np.where(gold, p, 1 - p)).mean())

    from preftree.labeling.panel.fitting import _loss

    mine = least(lambda weights: _loss(said, gold, mean, weights), 4)
    simplex = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    theirs = optimize.minimize(
        loss, np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints=[simplex], method="SLSQP", options={"ftol": 1e-14}
    )
    assert mine.min() >= 0
    assert mine.sum() == pytest.approx(1, abs=1e-12)
    assert loss(mine) <= theirs.fun + 1e-8
    assert mine == pytest.approx(theirs.x, abs=2e-3)


@pytest.mark.parametrize("mean", MEANS)
def test_gradients_are_those_of_the_loss(mean: Mean) -> None:
    """Catches a wrong sign or a missing factor, which a slow descent would hide."""
    from preftree.labeling.panel.fitting import _loss

    said, gold = simulated(50, (1.0, 0.6))
    weights, step = np.array([0.3, 0.7]), 1e-6
    _, gradient = _loss(said, gold, mean, weights)
    for judge in range(2):
        nudge = step * (np.arange(2) == judge)
        ends = [_loss(said, gold, mean, weights + sign * nudge)[0] for sign in (1, -1)]
        assert gradient[judge] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-6)


def test_a_judge_who_knows_nothing_gets_next_to_no_weight() -> None:
    """Catches weights that gold does not reach, and a coin that is weighted as a judge is."""
    said, gold = simulated(1000, (2.0, 2.0))
    noise = np.random.default_rng(2).random((1000, 1))
    found = fit(np.hstack([said, noise]), gold, "probability")
    assert found.mixture.weights[2] < 0.02
    assert found.slopes[:2] == pytest.approx((0.5, 0.5), rel=0.15), "each judge is calibrated: it was twice too sure"
    panel, equal, alone = found.losses
    assert panel < equal
    assert panel < min(alone)


def test_with_few_gold_pairs_weights_are_drawn_to_equal_ones() -> None:
    """Catches weights of a handful of pairs believed as those of a thousand are."""
    shrunk = []
    for seed in range(20):
        said, gold = simulated(20, (1.0, 1.0), seed)
        found = fit(said, gold, "probability")
        assert found.shrinkage in SHRINKAGES
        shrunk.append(found.shrinkage)
    assert np.mean(shrunk) > 0.5
