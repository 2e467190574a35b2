"""The soft label's arithmetic, by hand and by property."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preftree.engine.errors import InputError
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.types import Message, Pair, RequestScores

PAIR = Pair("1", (Message("user", "q"),), "AAA", "BBB", "a")
RLAIF = Rlaif(load_template("general"))
INVERTED = Rlaif(load_template("harmlessness"))
LOGPROB = st.floats(-60, 0)


def scores(first: float, second: float) -> RequestScores:
    return RequestScores.single((first, second), math.exp(first) + math.exp(second), 10)


def test_both_orders_are_asked() -> None:
    first, second = RLAIF.requests(PAIR)
    assert first.user.index("AAA") < first.user.index("BBB")
    assert second.user.index("BBB") < second.user.index("AAA")


def test_the_distributions_are_averaged_not_the_logits() -> None:
    """P(1) = 0.8 with A first, P(1) = 0.4 with B first: A is better with (0.8 + 0.6) / 2."""
    label = RLAIF.aggregate(PAIR, [scores(math.log(0.4), math.log(0.1)), scores(math.log(0.2), math.log(0.3))])
    assert label.p_a_first == pytest.approx(0.8)
    assert label.p_a_second == pytest.approx(0.6)
    assert label.p_a == pytest.approx(0.7)
    assert label.position_gap == pytest.approx(0.2)
    assert (label.label_mass_first, label.label_mass_second) == (pytest.approx(0.5), pytest.approx(0.5))
    assert label.prompt_tokens == 20
    assert label.verdict == "a"


def test_invert_asks_for_the_worse_one() -> None:
    asked = [scores(math.log(0.4), math.log(0.1)), scores(math.log(0.2), math.log(0.3))]
    assert INVERTED.aggregate(PAIR, asked).p_a == pytest.approx(0.3)


@given(LOGPROB, LOGPROB, LOGPROB, LOGPROB, st.sampled_from([RLAIF, INVERTED]))
def test_swapping_is_exact(a: float, b: float, c: float, d: float, method: Rlaif) -> None:
    """Without the grid, 1 - p_a differs from the swapped pair's in the last bit for about a third of all values."""
    straight = method.aggregate(PAIR, [scores(a, b), scores(c, d)])
    swapped = method.aggregate(PAIR, [scores(c, d), scores(a, b)])
    assert swapped.p_a == 1 - straight.p_a
    assert 1 - swapped.p_a == straight.p_a
    assert swapped.p_a_first == 1 - straight.p_a_second
    assert swapped.position_gap == straight.position_gap
    assert 0 <= straight.p_a <= 1


@given(LOGPROB, LOGPROB)
def test_identical_responses_tie(a: float, b: float) -> None:
    label = RLAIF.aggregate(PAIR, [scores(a, b), scores(a, b)])
    assert label.p_a == 0.5
    assert label.verdict == "tie"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_label(bad: float) -> None:
    with pytest.raises(InputError, match="not finite"):
        RLAIF.aggregate(PAIR, [scores(-1, -2), RequestScores.single((bad, -1.0), 1.0, 10)])


def test_swap_of_a_pair() -> None:
    swapped = PAIR.swap()
    assert (swapped.response_a, swapped.response_b, swapped.gold) == ("BBB", "AAA", "b")
    assert swapped.swap() == PAIR
