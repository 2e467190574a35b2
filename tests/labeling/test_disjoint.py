"""Labels that begin with each other, against sums of probabilities in exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from preftree.labeling.judge.disjoint import disjoint


def logs(*probabilities: float) -> list[float]:
    """As the engine gives them: float32."""
    return np.log(np.array(probabilities, dtype=np.float64)).astype(np.float32).tolist()


def test_1_is_not_10() -> None:
    """Catches P("1") that still holds P("10"): the score of a response would lean to 1 the better the response is."""
    one, two, ten = disjoint(logs(0.6, 0.1, 0.45), [[33], [34], [33, 32]])
    assert math.exp(one) == pytest.approx(0.6 * (1 - 0.45 / 0.6), rel=1e-6)
    assert (math.exp(two), math.exp(ten)) == (pytest.approx(0.1), pytest.approx(0.45))


def test_only_the_next_longer_ones_are_taken_away() -> None:
    """Catches "100" taken from "1" twice: once for itself and once within "10"."""
    got = disjoint(logs(0.5, 0.3, 0.1, 0.05, 0.2), [[1], [1, 0], [1, 0, 0], [1, 1], [2]])
    assert np.exp(got) == pytest.approx([0.5 - 0.3 - 0.05, 0.3 - 0.1, 0.1, 0.05, 0.2], rel=1e-5)


def test_labels_that_do_not_begin_each_other_keep_their_bits() -> None:
    """Catches labels of the pairwise methods that change in the last bit."""
    numbers = logs(0.2, 0.3, 0.123)
    assert disjoint(numbers, [[1], [2], [3]]) == tuple(numbers)
    assert disjoint(numbers, [[1], [2], [3, 1]]) == tuple(numbers), "where 10 is one token of its own"


@given(st.floats(-60, 0, width=32), st.floats(0, 40, width=32))
@example(-1.0, 2.0**-18)
@example(-1.0, 30.0)
def test_against_exact_arithmetic(whole: float, gap: float) -> None:
    """Catches 1 - exp(x) where almost all of "1" is "10": half the digits would be gone."""
    part = float(np.float32(whole - gap))
    [got, _] = disjoint([whole, part], [[1], [1, 0]])
    assert math.isfinite(got)
    assert got <= whole
    if whole - part > 1e-6:
        share = -Fraction(math.expm1(part - whole))
        assert math.exp(got - whole) == pytest.approx(float(share), rel=1e-12)


@pytest.mark.parametrize("part", [-1.0, -1.0 + 1e-7, -0.9])
def test_rounding_never_makes_a_probability_negative(part: float) -> None:
    """Catches the logarithm of zero or less, where float32 has given "10" as much as "1" or a little more."""
    [got, _] = disjoint([-1.0, part], [[1], [1, 0]])
    assert math.exp(got) == pytest.approx(math.exp(-1.0) * 2**-24, rel=1e-6)


def test_longer_labels_may_hold_all_of_it() -> None:
    """Catches the same with many longer labels, each of them small."""
    got = disjoint(logs(0.5, *[0.05] * 10), [[1], *([1, digit] for digit in range(10))])
    assert 0 < math.exp(got[0]) < 1e-6


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    """Catches a broken model's number that becomes a good-looking one."""
    for logprob in ([bad, -1.0], [-1.0, bad]):
        assert not all(map(math.isfinite, disjoint(logprob, [[1], [1, 0]])))
