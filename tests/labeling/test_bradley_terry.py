"""Who is compared with whom, and strengths from comparisons, against other ways to find them."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from preftree.labeling.methods.bradley_terry import RIDGE, strengths
from preftree.labeling.methods.ranking import balanced_pairs


def random_wins(draws: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Complete, with some ties and some complete dominance."""
    wins = draws.random((size, size)) ** draws.integers(1, 9)
    wins = np.where(draws.random((size, size)) < 0.3, np.round(2 * wins) / 2, wins)
    wins = np.triu(wins, 1) + np.tril(1 - wins.T, -1)
    np.fill_diagonal(wins, np.nan)
    return wins


@pytest.mark.parametrize("size", range(2, 14))
def test_any_number_of_pairs_is_balanced_and_connected(size: int) -> None:
    """Catches a response that nobody meets, two groups that never meet, and pairs that come twice."""
    for number in range(size - 1, size * (size - 1) // 2 + 1):
        pairs = [tuple(sorted(pair)) for pair in balanced_pairs(size, number)]
        assert len(set(pairs)) == number
        games = Counter(itertools.chain(*pairs))
        assert set(games) == set(range(size))
        assert max(games.values()) - min(games.values()) <= 1 + size % 2
        together = {0}
        for _ in range(size):
            together |= {one for pair in pairs if together & set(pair) for one in pair}
        assert len(together) == size


def test_two_responses_by_bisection() -> None:
    """Catches a wrong ridge, and strengths that are not log-odds."""
    for p in (0.0, 1e-9, 0.2, 0.5, 0.73, 0.99, 1.0):
        low, high = -20.0, 20.0
        for _ in range(200):
            gap = (low + high) / 2  # p - sigmoid(gap) - RIDGE gap / 2 falls with the gap
            low, high = (gap, high) if p - 1 / (1 + math.exp(-gap)) - RIDGE * gap / 2 > 0 else (low, gap)
        found = strengths(np.array([[np.nan, p], [1 - p, np.nan]]))
        assert found == pytest.approx([gap / 2, -gap / 2], abs=1e-10)
    assert 2 * found[0] == pytest.approx(7.8434, abs=1e-4)


def test_strengths_against_iterated_least_squares() -> None:
    """A logistic regression with a row a comparison, as textbooks have it. Catches a wrong gradient, an early stop."""
    draws = np.random.default_rng(0)
    for _ in range(60):
        size = int(draws.integers(2, 9))
        wins = random_wins(draws, size)
        pairs = balanced_pairs(size, int(draws.integers(size - 1, size * (size - 1) // 2 + 1)))
        partial = np.full_like(wins, np.nan)
        design, won = np.zeros((len(pairs), size)), np.zeros(len(pairs))
        for number, (i, j) in enumerate(pairs):
            partial[i, j], partial[j, i] = wins[i, j], wins[j, i]
            design[number, i], design[number, j], won[number] = 1, -1, wins[i, j]
        found = strengths(partial)
        assert found.sum() == pytest.approx(0, abs=1e-10)
        p = 1 / (1 + np.exp(-design @ found))
        weight = p * (1 - p)
        whole = np.vstack([design * np.sqrt(weight)[:, None], math.sqrt(RIDGE) * np.eye(size)])
        target = np.concatenate([(weight * (design @ found) + won - p) / np.sqrt(weight), np.zeros(size)])
        again = np.linalg.lstsq(whole, target, rcond=None)[0]  # one more step from the solution stays there
        np.testing.assert_allclose(found, again, atol=1e-9)


def test_strengths_that_made_the_wins_are_found() -> None:
    """Catches a model other than Bradley and Terry's."""
    made = np.array([1.5, -0.5, 0.25, -1.25])
    wins = 1 / (1 + np.exp(made[None, :] - made[:, None]))
    np.fill_diagonal(wins, np.nan)
    np.testing.assert_allclose(strengths(wins), made, atol=2e-3)


@pytest.mark.parametrize("size", [2, 3, 10, 60])
def test_complete_dominance_is_finite(size: int) -> None:
    """Catches infinite strengths, and a search that overshoots or gives up."""
    wins = np.where(np.triu(np.ones((size, size)), 1) == 1, 1.0, 0.0)
    np.fill_diagonal(wins, np.nan)
    chain = np.where(np.abs(np.subtract.outer(range(size), range(size))) == 1, wins, np.nan)
    for case in (wins, chain):
        found = strengths(case)
        assert np.isfinite(found).all()
        assert (np.diff(found) < -1).all()
        np.testing.assert_allclose(found, -found[::-1], atol=1e-9)


def test_a_search_that_whole_steps_would_not_end() -> None:
    """Catches Newton's steps taken whole: on this chain of 26, each of whom beats the last, they run away."""
    wins = np.full((26, 26), np.nan)
    for winner, loser, p in [(i, i - 1, 0.5 if i == 13 else 1.0) for i in range(1, 26)] + [(13, 0, 1.0), (21, 8, 1.0)]:
        wins[winner, loser], wins[loser, winner] = p, 1 - p
    found = strengths(wins)
    p_win = 1 / (1 + np.exp(found[None, :] - found[:, None]))
    slope = np.where(np.isnan(wins), 0.0, wins - p_win).sum(axis=1) - RIDGE * found
    np.testing.assert_allclose(slope, 0.0, atol=1e-13)
