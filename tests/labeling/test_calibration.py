"""Curves of calibration and their scores, against scipy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import bootstrap, norm
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss, log_loss

from preftree.engine.errors import InputError
from preftree.labeling.calibration import isotonic, temperature
from preftree.labeling.calibration.curve import Curve, applied
from preftree.labeling.calibration.fitting import calibration_lines, calibration_of
from preftree.labeling.calibration.gold import GoldPairs
from preftree.labeling.calibration.scores import FOLDS, Scores, cross_validated
from preftree.labeling.calibration.temperature import Temperature
from preftree.labeling.grid import STEP, on_grid
from preftree.labeling.report.arrays import Floats, Mask
from preftree.labeling.report.calibration import Calibration as Reliability


def simulated(slope: float, pairs: int, seed: int = 0, is_even: bool = False) -> tuple[Floats, Mask]:
    """Probabilities, and gold by the calibrated ones. is_even: of pairs of about one p, A wins as many as expected."""
    draws = np.random.default_rng(seed)
    logits = draws.normal(0, 2 / slope, pairs)
    uniforms = draws.random(pairs)
    if is_even:
        uniforms[np.argsort(logits)] = (np.arange(pairs) * (math.sqrt(5) - 1) / 2) % 1
    p_a = np.array([on_grid(1 / (1 + math.exp(-logit))) for logit in logits])
    return p_a, uniforms < 1 / (1 + np.exp(-slope * logits))


def log_loss_at(slope: float, p_a: Floats, gold: Mask) -> float:
    logits = np.log(p_a) - np.log1p(-p_a)
    return float(np.logaddexp(0, np.where(gold, -1, 1) * slope * logits).sum())


@pytest.mark.parametrize("slope", [0.25, 0.5, 1.0, 3.0])
def test_a_known_temperature_is_recovered(slope: float) -> None:
    """Catches a slope for its inverse, and one that is biased: 2,000 pairs without sampling error, then many with."""
    found = temperature.fitted(*simulated(slope, 2000, is_even=True))
    assert found.slope == pytest.approx(slope, rel=0.05)
    drawn = [temperature.fitted(*simulated(slope, 2000, seed)).slope for seed in range(20)]
    assert np.mean(drawn) == pytest.approx(slope, rel=0.03)


@pytest.mark.parametrize("pairs", [30, 500])
def test_temperature_is_the_maximum_of_the_likelihood(pairs: int) -> None:
    """Catches a Newton step that stops early, and an error that is not that of the observed information."""
    p_a, gold = simulated(0.4, pairs, seed=3)
    found = temperature.fitted(p_a, gold)
    best = minimize_scalar(log_loss_at, bounds=(0, 10), args=(p_a, gold), method="bounded", options={"xatol": 1e-10})
    assert found.slope == pytest.approx(best.x, rel=1e-6)
    step = 1e-3
    around = [log_loss_at(found.slope + at, p_a, gold) for at in (-step, 0, step)]
    information = (around[0] - 2 * around[1] + around[2]) / step**2
    assert found.error == pytest.approx(1 / math.sqrt(information), rel=1e-4)
    assert found.interval == pytest.approx(norm.interval(0.95, found.slope, found.error))


def test_the_interval_of_the_temperature_covers() -> None:
    """Catches an error that is too small: of 200 samples about 95% must have the true slope in their interval."""
    found = [temperature.fitted(*simulated(0.6, 200, seed)).interval for seed in range(200)]
    assert 0.91 <= np.mean([low <= 0.6 <= high for low, high in filter(None, found)]) <= 0.99


def test_temperature_of_wild_probabilities() -> None:
    """Catches a bracket that is never found, or a step out of it: one wrong verdict among very sure and unsure ones."""
    p_a = np.array([1.0, 0.0, 0.5 + STEP, 0.5 - STEP, 0.9, 1 - STEP])
    gold = np.array([True, False, True, False, False, True])
    found = temperature.fitted(p_a, gold)
    assert 0 < found.slope < 1
    assert found.error is not None
    unsure = np.array([0.5 + STEP] * 9 + [0.5 - STEP])
    assert temperature.fitted(unsure, np.ones(10, bool)).slope == pytest.approx(math.log(9) / (4 * STEP), rel=1e-6)


def test_pairs_that_tell_no_temperature() -> None:
    """Catches an endless search where every verdict is right, and a slope that turns verdicts round."""
    right = temperature.fitted(np.array([0.8, 0.3]), np.array([True, False]))
    assert (right.slope, right.error) == (1.0, None)
    assert "every verdict is right" in dict(right.lines())["temperature"]
    with pytest.raises(InputError, match="no better than a coin on 2 gold pairs"):
        temperature.fitted(np.array([0.8, 0.3]), np.array([False, True]))
    with pytest.raises(InputError, match=r"every p_a with gold is 0\.5"):
        temperature.fitted(np.array([0.5, 0.5]), np.array([False, True]))
    assert temperature.fitted_fold(np.array([0.8]), np.array([False])).at(0.9) == 0.5 + STEP


CURVES = (
    Temperature(0.1),
    Temperature(7.0),
    Temperature(1e-9),
    isotonic.fitted(*simulated(0.5, 300)),
    isotonic.fitted(np.array([0.9, 0.6]), np.array([False, True])),
)


@given(p=st.floats(0, 1), curve=st.sampled_from(CURVES))
def test_exchanging_a_and_b_gives_one_less_p(p: float, curve: Curve) -> None:
    """Catches a curve that is not the same upside down to the bit, leaves 0 to 1, or changes a verdict."""
    q = curve.at(p)
    assert curve.at(1 - p) == 1 - q
    assert 0 <= q <= 1
    assert np.sign(q - 0.5) == np.sign(p - 0.5)


@pytest.mark.parametrize("curve", CURVES)
def test_identical_responses_stay_at_half(curve: Curve) -> None:
    """Catches an offset, and a curve that falls anywhere."""
    assert curve.at(0.5) == 0.5
    p = np.linspace(0, 1, 2001)
    assert (np.diff(applied(curve, p)) >= 0).all()
    assert applied(curve, p)[17:18].tobytes() == applied(curve, p[17:18]).tobytes()


def test_certainty_stays_finite() -> None:
    """Catches an infinite logit of a probability that was rounded to 1."""
    assert 1 - Temperature(0.5).at(1.0) == pytest.approx(2.0**-26.5, rel=1e-6)
    assert Temperature(0.5).at(1.0) > Temperature(0.5).at(1 - STEP)


@pytest.mark.parametrize("pairs", [1, 2, 3, 10, 400])
def test_isotonic_is_that_of_pairs_and_their_mirror_images(pairs: int) -> None:
    """Catches pooling in the wrong direction, ties of p that are not one point, and knots that are left out."""
    p_a, gold = simulated(0.5, pairs, seed=pairs)
    p_a = np.round(p_a * 64) / 64  # many are equal, and some are 0.5
    both, better = np.concatenate([p_a, 1 - p_a]), np.concatenate([gold, ~gold]).astype(float)
    most = (pairs + 1) / (pairs + 2)
    wanted = IsotonicRegression(y_min=1 - most, y_max=most, out_of_bounds="clip").fit(both, better)
    found = isotonic.fitted(p_a, gold)
    for points in (p_a, np.linspace(0, 1, 1001)):
        assert applied(found, points) == pytest.approx(wanted.predict(points), abs=1e-12)


def test_scores_are_those_of_scikit_learn() -> None:
    """Catches natural and binary logarithms taken for each other, and a certain error that makes the loss infinite."""
    p_a, gold = simulated(0.5, 200)
    found = Scores.of(p_a, gold)
    assert found.nll.value == pytest.approx(log_loss(gold, p_a))
    assert found.brier.value == pytest.approx(brier_score_loss(gold, p_a))
    reported = Reliability()
    reported.add(p_a, gold)
    assert found.ece.value == pytest.approx(reported.expected_error)
    certain = Scores.of(np.array([1.0, 1.0]), np.array([True, False]))
    assert certain.nll.value == pytest.approx(53 * math.log(2) / 2)
    assert certain.ece.value == 0.5


def test_intervals_are_those_of_a_bootstrap() -> None:
    """Catches a bootstrap over bins instead of pairs, figures that change from call to call or are not in theirs."""
    p_a, gold = simulated(0.5, 300)
    found = Scores.of(p_a, gold)
    assert found == Scores.of(p_a, gold)
    few = Scores.of(*simulated(1.0, 30, seed=1))
    assert all(figure.low <= figure.value <= figure.high for figure in (few.nll, few.brier, few.ece))
    losses = -np.log(np.where(gold, p_a, 1 - p_a))
    wanted = bootstrap((losses,), np.mean, method="percentile", rng=np.random.default_rng(1)).confidence_interval
    width = wanted.high - wanted.low
    assert (found.nll.low, found.nll.high) == pytest.approx(tuple(wanted), abs=0.1 * width)


def test_figures_do_not_depend_on_which_response_is_a() -> None:
    """Catches figures of p_a where those of the verdict are meant."""
    p_a, gold = simulated(0.5, 200)
    one, other = Scores.of(p_a, gold), Scores.of(1 - p_a, ~gold)
    assert one.nll == pytest.approx(other.nll)
    assert one.ece == pytest.approx(other.ece)
    assert temperature.fitted(p_a, gold).slope == pytest.approx(temperature.fitted(1 - p_a, ~gold).slope)


def test_pairs_are_calibrated_by_other_pairs() -> None:
    """Catches figures of pairs that the curve has seen: isotonic regression of noise looks good on these."""
    draws = np.random.default_rng(0)
    p_a, gold = draws.random(200), draws.random(200) < 0.5
    seen = Scores.of(applied(isotonic.fitted(p_a, gold), p_a), gold)
    held_out = cross_validated(isotonic.fitted, p_a, gold)
    assert held_out is not None
    assert seen.nll.value < math.log(2) < Scores.of(held_out, gold).nll.value
    assert cross_validated(isotonic.fitted, p_a[: 2 * FOLDS - 1], gold[: 2 * FOLDS - 1]) is None


def gold_of(p_a: Floats, gold: Mask, subset: tuple[str, ...] | None = None) -> GoldPairs:
    return GoldPairs(tuple(map(str, range(len(p_a)))), p_a, gold, subset)


def test_calibration_helps_a_judge_that_is_too_sure() -> None:
    """Catches a calibration that is applied the wrong way round."""
    p_a, gold = simulated(0.3, 1000)
    for method in ("temperature", "isotonic"):
        found = calibration_of(method, gold_of(p_a, gold), {})
        assert found.after is not None
        assert found.after.nll.high < found.before.nll.low
        assert found.after.ece.value < found.before.ece.value / 2
        assert "warning" not in dict(calibration_lines(gold_of(p_a, gold), found))


def test_subsets_have_figures_of_their_own() -> None:
    """Catches a subset's pairs that are those of another, or a curve for each."""
    p_a, gold = simulated(0.5, 60)
    names = tuple("easy" if place % 3 else "hard" for place in range(60))
    found = calibration_of("temperature", gold_of(p_a, gold, names), {})
    assert [(one["value"], one["pairs"]) for one in found.subsets] == [("hard", 20), ("easy", 40)]
    hard = np.array(names) == "hard"
    assert found.subsets[0]["before"] == Scores.of(p_a[hard], gold[hard]).record()
    assert found.curve == calibration_of("temperature", gold_of(p_a, gold), {}).curve


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (99, ["fewer than 100 gold pairs: look at the intervals"]),
        (19, ["fewer than 20 gold pairs tell hardly more than chance"]),
        (9, ["fewer than 20 gold pairs", "cannot be said below 10 gold pairs"]),
    ],
)
def test_few_gold_pairs(pairs: int, said: list[str]) -> None:
    """Catches figures of a handful of pairs that look like those of many."""
    gold = gold_of(*simulated(0.5, pairs, is_even=True))
    lines = calibration_lines(gold, calibration_of("isotonic", gold, {}))
    warnings = " ".join(text for name, text in lines if name == "warning")
    assert all(part in warnings for part in said)
