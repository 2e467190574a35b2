"""What explaining asks for and what becomes of several answers: settings, averages by hand, exchanges by property."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preftree.engine.errors import InputError, UsageError
from preftree.engine.generation import Sampling
from preftree.labeling.methods.direct import Direct
from preftree.labeling.methods.probability import mean_log_odds, mean_probability, probability
from preftree.labeling.methods.registry import open_method
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.methods.salmon import Salmon
from preftree.labeling.options.methods import JudgeOptions, RlaifOptions
from preftree.labeling.principles.principle import Principle
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.rationales import Rationale, rationale_columns, rationale_values, recorded_rationales
from preftree.labeling.types import Answer, Message, Pair, RequestScores, Response

PROMPT = (Message("user", "q"),)
PAIR = Pair("1", PROMPT, "AAA", "BBB")
TWO = Sampling(n=2, temperature=1.0)
LOG_ODDS = st.floats(-800, 800)
SEVERAL = st.lists(st.tuples(st.floats(-60, 0), st.floats(-60, 0)), min_size=3, max_size=3)


def answered(*probabilities: tuple[float, ...], tokens: int = 10) -> RequestScores:
    """Behind one rationale after the other, which are numbered."""
    return RequestScores(
        tuple(
            Answer(tuple(map(math.log, shares)), sum(shares), Rationale(f"r{number}", number, number > 1))
            for number, shares in enumerate(probabilities)
        ),
        tokens,
    )


def from_log(answers: list[tuple[float, float]]) -> RequestScores:
    return RequestScores(tuple(Answer(pair, 0.5, Rationale("r", 1, False)) for pair in answers), 10)


# settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_rationale_tokens": 0}, "--max-rationale-tokens must be a whole number, from 1 to 134,217,728, not 0"),
        ({"samples": 0, "temperature": 1.0}, "--samples must be a whole number, from 1 to 256, not 0"),
        ({"samples": 257, "temperature": 1.0}, "--samples must be a whole number, from 1 to 256, not 257"),
        ({"temperature": -0.5}, r"--temperature must be 0 \(the most probable\) or from 0.01 to 100, not -0.5"),
        ({"temperature": math.nan}, "--temperature must be 0 .* not nan"),
        ({"temperature": 1e-9}, "--temperature must be 0 .* not 1e-09"),
        ({"temperature": 1.0, "top_k": 0}, "--top-k must be a whole number, from 1 to .*, not 0"),
        ({"temperature": 1.0, "top_p": 0.0}, "--top-p must be a number above 0 and at most 1, not 0"),
        ({"temperature": 1.0, "top_p": 1.5}, "--top-p must be a number above 0 and at most 1, not 1.5"),
        ({"temperature": 1.0, "seed": -1}, "--seed must be a whole number, at least 0, not -1"),
        ({"samples": 4}, "--samples requires --temperature above 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    """Catches nonsense that is found out when the model is loaded, and samples that are copies of each other."""
    with pytest.raises(UsageError, match=f"^{message}"):
        RlaifOptions(cot=True, **settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"cot": True, "method": "ranking"},
            "--cot is not for method ranking; it is for rlaif, direct, rubric and salmon",
        ),
        ({"cot": True, "method": "principled"}, "--cot is not for method principled"),
        ({"samples": 3, "temperature": 1.0}, "--samples requires --cot"),
        ({"max_rationale_tokens": 9}, "--max-rationale-tokens requires --cot"),
        ({"seed": 1}, "--seed requires --cot"),
        ({"kv_memory": 9}, "--kv-memory requires --cot"),
        ({"cot": True, "top_k": 4}, "--top-k requires --temperature above 0"),
        ({"cot": True, "seed": 4}, "--seed requires --temperature above 0"),
        ({"cot": True, "template": "principled-pair"}, "principled-pair:33: there is no 'rationale' for --cot"),
    ],
)
def test_options_that_would_be_dropped(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        open_method(JudgeOptions(input="x", **options))


def test_options_reach_the_method() -> None:
    options = JudgeOptions(
        input="x", cot=True, max_rationale_tokens=7, samples=3, temperature=0.5, top_k=40, top_p=0.9, seed=11
    )
    expected = Sampling(max_new_tokens=7, n=3, temperature=0.5, top_k=40, top_p=0.9, seed=11)
    for name in ("rlaif", "direct", "salmon"):
        method = open_method(JudgeOptions(**{**vars(options), "method": name}))
        for request in method.requests(Response("1", PROMPT, "A") if name == "direct" else PAIR):
            assert request.rationale is not None
            assert request.rationale.reasoning == expected
        plain = open_method(JudgeOptions(input="x", method=name))
        assert not any("rationale" in str(column) for column in plain.columns.items()), "columns unchanged without"


# averages


def test_rlaif_averages_distributions_over_samples_then_orders() -> None:
    """P(1) is 0.8 and 0.6 with A first, 0.4 and 0.1 with B first; by hand (0.7 + 0.75) / 2. Averaged logits differ."""
    method = Rlaif(load_template("general"), reasoning=TWO)
    label = method.aggregate(PAIR, [answered((0.4, 0.1), (0.3, 0.2)), answered((0.2, 0.3), (0.1, 0.9), tokens=7)])
    assert label.p_a_first == pytest.approx(0.7)
    assert label.p_a_second == pytest.approx(0.75)
    assert label.p_a == pytest.approx(0.725)
    assert label.label_mass_first == pytest.approx(0.5)
    assert label.label_mass_second == pytest.approx(0.75)
    assert label.prompt_tokens == 17
    values = label.values()
    assert set(values) == set(method.columns)
    assert values["rationale_first"] == values["rationale_second"] == ["r0", "r1"]
    assert (values["rationale_tokens_first"], values["rationale_cut_second"]) == ([0, 1], [False, False])
    assert [len(written) for written in method.rationales(values)] == [2, 2]
    inverted = Rlaif(load_template("harmlessness"), reasoning=TWO)
    scores = [answered((0.4, 0.1), (0.3, 0.2)), answered((0.2, 0.3), (0.1, 0.9))]
    assert inverted.aggregate(PAIR, scores).p_a == pytest.approx(0.275)


@given(SEVERAL, SEVERAL, st.sampled_from(["general", "harmlessness"]))
def test_swapping_is_exact_with_several_samples(
    first: list[tuple[float, float]], second: list[tuple[float, float]], template: str
) -> None:
    """Catches a mean off the grid, where 1 - p rounds."""
    method = Rlaif(load_template(template), reasoning=Sampling(n=3, temperature=1.0))
    straight = method.aggregate(PAIR, [from_log(first), from_log(second)])
    swapped = method.aggregate(PAIR.swap(), [from_log(second), from_log(first)])
    assert swapped.p_a == 1 - straight.p_a
    assert 1 - swapped.p_a == straight.p_a
    assert swapped.p_a_first == 1 - straight.p_a_second
    assert method.aggregate(PAIR, [from_log(first), from_log(first)]).p_a == 0.5
    assert method.aggregate(PAIR, [from_log(first[:1]), from_log(second[:1])]) == Rlaif(
        load_template(template), reasoning=Sampling()
    ).aggregate(PAIR, [from_log(first[:1]), from_log(second[:1])])


def test_salmon_takes_the_log_odds_of_the_mean() -> None:
    """0.8 and 0.6 make 0.7: s12 is its logit, not the mean of theirs, which would be 0.90 and not 0.85."""
    method = Salmon(load_template("salmon"), (Principle("kind", "Be kind.", "Be rude."),), reasoning=TWO)
    label = method.aggregate(PAIR, [answered((0.4, 0.1), (0.3, 0.2)), answered((0.2, 0.3), (0.1, 0.9))])
    [judged] = label.principles
    assert judged.s12 == pytest.approx(math.log(0.7 / 0.3))
    assert judged.s21 == pytest.approx(math.log(0.75 / 0.25))
    values = label.values()
    assert set(values["principles"][0]) == set(method.columns["principles"][0])  # type: ignore[index]
    assert values["principles"][0]["rationale_second"] == ["r0", "r1"]
    assert [rationale.text for rationale in method.rationales(values)[1]] == ["r0", "r1"]


@given(st.lists(LOG_ODDS, min_size=1, max_size=5))
def test_mean_log_odds(log_odds: list[float]) -> None:
    """Catches infinities where all samples are sure, and an exchange that is off by a bit."""
    mean = mean_log_odds(log_odds)
    assert math.isfinite(mean)
    assert mean_log_odds([-value for value in log_odds]) == -mean
    assert mean_log_odds(log_odds[::-1]) == mean
    assert min(log_odds) - 1e-9 <= mean <= max(log_odds) + 1e-9
    assert probability(mean) == pytest.approx(mean_probability(log_odds), abs=1e-12)
    assert mean_log_odds(log_odds[:1]) == log_odds[0]
    assert mean_probability(log_odds[:1]) == probability(log_odds[0])


def test_direct_averages_distributions() -> None:
    """Renormalised over the labels first: a sample that gives them little mass counts like another."""
    method = Direct(load_template("direct-yes-no"), reasoning=TWO)
    label = method.aggregate(Response("1", PROMPT, "A"), [answered((0.6, 0.2), (0.01, 0.03))])
    [score] = label.scores
    assert score.distribution == pytest.approx((0.5, 0.5))
    assert score.score == pytest.approx(0.5)
    assert score.entropy == pytest.approx(math.log(2))
    assert score.label_mass == pytest.approx(0.42)
    values = label.values()
    assert set(values) == set(method.columns)
    assert (values["rationale"], values["rationale_a"], values["rationale_cut_b"]) == (["r0", "r1"], None, None)
    of_pair = method.aggregate(PAIR, [answered((0.6, 0.2), (0.5, 0.5)), answered((0.5, 0.5), (0.1, 0.1))]).values()
    assert set(of_pair) == set(method.columns)
    assert (of_pair["rationale"], of_pair["rationale_tokens_b"]) == (None, [0, 1])
    assert [len(written) for written in method.rationales(of_pair)] == [2, 2]
    assert [len(written) for written in method.rationales(values)] == [2]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_sample_that_is_not_finite_is_no_label(bad: float) -> None:
    """Catches a nan that is averaged away, or into the label."""
    broken = RequestScores((Answer((-1.0, -2.0), 0.5), Answer((bad, -1.0), 0.5)), 10)
    with pytest.raises(InputError, match="not finite"):
        Rlaif(load_template("general")).aggregate(PAIR, [from_log([(-1.0, -2.0)]), broken])


# columns


@pytest.mark.parametrize("samples", [1, 2])
def test_rationales_survive_their_columns(samples: int) -> None:
    """Catches a single rationale in a list, and text and counts that change places."""
    written = tuple(Rationale(f"text {number}", number, number == 1) for number in range(samples))
    values = rationale_values({"_a": written, "_b": ()})
    columns = rationale_columns(samples, ["_a"])
    assert list(values) == list(columns) == ["rationale_a", "rationale_tokens_a", "rationale_cut_a"]
    assert columns["rationale_a"] == ("string" if samples == 1 else ["string"])
    assert values["rationale_a"] == ("text 0" if samples == 1 else ["text 0", "text 1"])
    assert recorded_rationales(values, "_a") == written
    assert recorded_rationales(values, "_b") == ()
