"""What instructions leave to chance: decisions by hand, draws by their laws, variances."""

from __future__ import annotations

import math
import statistics
from array import array
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from preftree.labeling.export.drawing import Draw, Recipe, decide, draw
from preftree.labeling.methods.spread import variance
from preftree.labeling.principles.drawing import uniforms

EVEN = Recipe(weights=(1.0,) * 11, number=None, negate=0.5, noise=0.1, seed=0)


def test_the_example_of_the_paper() -> None:
    """Scores of A (2, 3, 6) and of B (1, 5, 5), ethical negated. Catches a sum of scores, and a negation forgotten."""
    gaps = [a - b for a, b in zip((2, 3, 6), (1, 5, 5), strict=True)]
    assert decide(gaps, (False, True, False)) == (1, "a")
    assert decide(gaps, (False, False, False)) == (1, "b")


def test_ties_of_a_decision() -> None:
    """Catches a preference made of zeros, and a tie that is decided differently elsewhere."""
    assert decide((0.0, -0.0), (False, True)) is None
    assert decide((2.0, -2.0), (False, False)) == (0, "a")
    assert decide((-2.0, 2.0), (True, False)) == (0, "a")


def test_draws_are_pinned() -> None:
    """Catches preferences that change with another version of NumPy or of this program."""
    assert uniforms("0/1/row", 3) == [0.5951776398777068, 0.5773197202656057, 0.5890946986616878]
    coins = {"rule_flipped": False, "refusal_counts": True, "swapped": False}
    assert [draw(EVEN, turn, "row") for turn in (1, 2)] == [
        Draw((6, 1, 2, 7), (True, True, True, False), flipped=False, **coins),
        Draw((4, 2, 1, 10), (True, True, True, False), flipped=False, **coins),
    ]
    many = np.array(uniforms("key", 4000))
    assert 0 <= many.min() < many.max() < 1
    assert abs(many.mean() - 0.5) < 0.02


def test_number_of_principles_is_geometric_up_to_eight() -> None:
    """Catches a law cut by its last value, which would get 0.8^7 = 21% instead of 5%, and one with fewer principles."""
    for most, recipe in ((8, EVEN), (3, replace(EVEN, weights=(1.0, 0.0, 2.0, 1.0)))):
        counts = Counter(len(draw(recipe, 1, str(k)).chosen) for k in range(4000))
        assert set(counts) == set(range(1, most + 1))
        for number, found in counts.items():
            expected = 0.2 * 0.8 ** (number - 1) / (1 - 0.8**most)
            assert found / 4000 == pytest.approx(expected, abs=4 * math.sqrt(expected / 4000))


def test_principles_are_drawn_by_weight_without_replacement() -> None:
    """Catches a principle drawn twice or with weight 0, and weights that are ignored."""
    recipe = replace(EVEN, weights=(1.0, 3.0, 0.0, 1e308, 1e308), number=2)
    assert all(set(draw(recipe, 1, str(k)).chosen) == {3, 4} for k in range(50))
    recipe = replace(EVEN, weights=(1.0, 3.0, 0.0, 4.0), number=2)
    draws = [draw(recipe, 1, str(k)).chosen for k in range(4000)]
    assert all(len(set(chosen)) == 2 and 2 not in chosen for chosen in draws)
    pairs = {pair: share / 4000 for pair, share in Counter(draws).items()}
    assert pairs[0, 1] == pytest.approx(1 / 8 * 3 / 7, abs=0.015)
    assert pairs[1, 3] == pytest.approx(3 / 8 * 4 / 5, abs=0.03)
    assert pairs[3, 1] == pytest.approx(4 / 8 * 3 / 4, abs=0.03)


def test_negation_and_noise_are_as_frequent_as_asked() -> None:
    """Catches one coin for all principles of a row, and noise that hangs together with negation."""
    draws = [draw(replace(EVEN, number=2, negate=0.3, noise=0.2), 1, str(k)) for k in range(4000)]
    both = Counter(one.negated for one in draws)
    for pair, expected in {(True, True): 0.09, (True, False): 0.21, (False, True): 0.21, (False, False): 0.49}.items():
        assert both[pair] / 4000 == pytest.approx(expected, abs=0.03)
    for negated in (True, False):
        flips = [one.flipped for one in draws if one.negated[0] == negated]
        assert sum(flips) / len(flips) == pytest.approx(0.2, abs=0.04)


def test_coins_of_rules() -> None:
    """Catches a coin that moves another choice, one that always falls alike, and one noise for rules and scores."""
    odd = replace(EVEN, rule_noise=0.3, refusal_share=0.7, random_order=True)
    draws = [draw(odd, 1, str(k)) for k in range(4000)]
    assert [(one.chosen, one.negated, one.flipped) for one in draws[:200]] == [
        (one.chosen, one.negated, one.flipped) for one in (draw(EVEN, 1, str(k)) for k in range(200))
    ]
    for name, expected in {"rule_flipped": 0.3, "refusal_counts": 0.7, "swapped": 0.5}.items():
        assert sum(getattr(one, name) for one in draws) / 4000 == pytest.approx(expected, abs=0.03)
    both = Counter((one.refusal_counts, one.swapped) for one in draws)
    assert both[True, True] / 4000 == pytest.approx(0.35, abs=0.03)


def test_a_draw_depends_on_seed_pass_and_id_and_on_nothing_else() -> None:
    """Catches a generator shared by rows or passes, and options that move other draws than their own."""
    assert draw(EVEN, 1, "x") == draw(EVEN, 1, "x")
    assert len({draw(EVEN, turn, "x") for turn in range(1, 9)}) > 4
    assert len({draw(replace(EVEN, seed=seed), 1, "x") for seed in range(8)}) > 4
    assert len({draw(EVEN, 1, str(k)) for k in range(8)}) > 4
    for k in range(100):
        some, more = draw(replace(EVEN, number=3), 1, str(k)), draw(replace(EVEN, number=5, noise=0.9), 1, str(k))
        assert more.chosen[:3] == some.chosen
        assert more.negated[:3] == some.negated
        assert more.flipped >= some.flipped


def test_a_variance() -> None:
    """Catches a sum that depends on the order of rows, and one that is lost next to a large mean."""
    numbers = array("d", [1e9 + x for x in np.random.default_rng(0).normal(size=500).tolist()])
    assert variance(numbers) == variance(array("d", sorted(numbers)))
    assert variance(numbers) == pytest.approx(statistics.pvariance(numbers), rel=1e-12)
    assert variance(array("d", [0.1] * 49)) == variance(array("d")) == 0
