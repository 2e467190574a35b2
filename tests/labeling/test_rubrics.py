"""Rubrics as files and data sets spell them, and the score that follows from their criteria."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preftree.engine.errors import InputError
from preftree.labeling.rubrics.file import load_rubric, parse_rubric
from preftree.labeling.rubrics.rubric import Criterion, Rubric
from preftree.labeling.rubrics.shapes import MAX_CRITERIA, rubric_of
from tests.processes import ROOT

TWO = (Criterion("short", "Is short.", 2.0), Criterion("rude", "Is rude.", -1.0))
VERIFIERS = [{"name": "short", "text": "Is short.", "weight": 2}, {"name": "rude", "text": "Is rude.", "weight": -1}]
OPEN_INSTRUCT = {
    "query": "q",
    "rubrics": [
        {"title": "short", "description": "Is short.", "weight": 2, "type": "x"},
        {"title": "rude", "description": "Is  rude.\n", "weight": -1, "type": None},
    ],
}
HEALTH = [
    {"name": "short", "criterion": "Is short.", "points": 2, "tags": ["level:example"]},
    {"name": "rude", "criterion": "Is rude.", "points": -1, "tags": []},
]


@pytest.mark.parametrize("value", [VERIFIERS, OPEN_INSTRUCT, HEALTH, json.dumps(OPEN_INSTRUCT), json.dumps(HEALTH)])
def test_every_shape_is_the_same_rubric(value: Any, tmp_path: Path) -> None:
    """Catches a field that one shape loses, in a column or in a file."""
    assert rubric_of(value) == Rubric(TWO)
    path = tmp_path / "rubric.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    assert load_rubric(str(path)) == Rubric(TWO)


def test_texts_alone_count_one_each() -> None:
    """Catches weights that are made up in silence, and texts of YAML that become true or a number."""
    assert rubric_of(["Is short.", "Is rude."]) == Rubric(
        (Criterion("Is short.", "Is short."), Criterion("Is rude.", "Is rude.")), weighted=False
    )
    (yes,) = parse_rubric("- {name: 'on', text: yes}", "x").criteria
    assert yes == Criterion("on", "yes")


def test_the_example_is_a_rubric() -> None:
    """Catches an example file that nobody can use."""
    rubric = load_rubric(str(ROOT / "examples" / "rubric.yaml"))
    assert rubric.weighted
    assert min(one.weight for one in rubric.criteria) < 0
    assert Rubric.recorded(json.loads(json.dumps(rubric.record()))) == rubric


def test_a_score_by_hand() -> None:
    """Catches faults that add to the score, or to what it is divided by."""
    rubric = Rubric((Criterion("a", "A", 3.0), Criterion("b", "B", 1.0), Criterion("c", "C", -2.0)))
    assert rubric.score([0.5, 1.0, 0.25]) == pytest.approx((1.5 + 1.0 - 0.5) / 4)
    assert (rubric.low, rubric.score([0, 0, 1]), rubric.score([1, 1, 0])) == (-0.5, -0.5, 1.0)
    assert (rubric.reward(-0.5), rubric.reward(0.25), rubric.reward(1.0)) == (-1.0, 0.0, 1.0)


WEIGHTS = st.one_of(st.just(0.0), st.floats(0.001, 1e9), st.floats(-1e9, -0.001))


@given(
    st.lists(st.tuples(WEIGHTS, st.floats(0, 1)), min_size=1, max_size=9).filter(
        lambda pairs: any(weight > 0 for weight, _ in pairs)
    )
)
def test_scores_keep_their_range(pairs: list[tuple[float, float]]) -> None:
    """Catches rounding that leaves [-1, 1], and a criterion whose weight has the wrong sign."""
    rubric = Rubric(tuple(Criterion(str(number), "x", weight) for number, (weight, _) in enumerate(pairs)))
    p_yes = [p for _, p in pairs]
    score = rubric.score(p_yes)
    assert rubric.low <= score <= 1
    assert -1 <= rubric.reward(score) <= 1
    for number, (weight, _) in enumerate(pairs):
        more = rubric.score([*p_yes[:number], 1.0, *p_yes[number + 1 :]])
        assert more >= score if weight >= 0 else more <= score


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "it holds no criteria"),
        ({"rubrics": []}, "it holds no criteria"),
        ({"weights": [1]}, "it must be a list of criteria, such as [{name, text, weight}, ...], found an object"),
        (3, "found a number"),
        ("Is short.", 'a text must be JSON and "Is short." is none'),
        ([1], "criterion 1 must be a text or an object, found a number"),
        ([{"name": "a", "weight": 1}], "criterion 1 has no text; it must be its text, description or criterion"),
        ([{"text": "A", "criterion": "B"}], "criterion 1 has text and criterion, which are the same field"),
        ([{"text": "A", "wieght": 1}], 'criterion 1 has an unknown field "wieght"; known: '),
        ([{"text": "A", "weight": "1"}], "the weight of criterion 1 must be a number, found a string"),
        ([{"text": "A", "weight": True}], "the weight of criterion 1 must be a number, found a boolean"),
        ([{"text": "A", "weight": float("nan")}], "the weight of criterion 1 must be from -1e+09 to 1e+09"),
        ([{"text": "A", "weight": 10**400}], "the weight of criterion 1 must be from"),
        ([{"text": "A", "weight": 1}, "B"], "criterion 2 has no weight and others have one"),
        ([{"text": "A", "weight": 0}, {"text": "B", "weight": 0}], "all weights are 0; no response could earn"),
        ([{"text": "A", "weight": -1}], "no weight is above 0: state a fault as its opposite"),
        (["A", "B", "a"], 'criteria 1 and 3 are both called "a"'),
        (["A", " "], "criterion 2 is empty"),
        (["A <|im_end|>"], "criterion 1 holds the control string '<|im_end|>'"),
        (["A \x1b[0m"], "criterion 1 holds the control character U+001B"),
        (["A" * 2001], "criterion 1 has 2,001 characters, more than 2,000"),
        ([{"name": "N" * 101, "text": "A"}], "the name of criterion 1 has 101 characters, more than 100"),
        ([str(number) for number in range(MAX_CRITERIA + 1)], "it holds 201 criteria; 200 is the limit"),
    ],
)
def test_what_is_no_rubric(value: Any, said: str) -> None:
    """Catches a rubric that is read as another one, and messages of more than one line."""
    with pytest.raises(InputError) as caught:
        rubric_of(value)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "rubric mine.yaml: it holds no criteria"),
        ("- {text: A, weight: 0}", "rubric mine.yaml: all weights are 0"),
        ("- {text: A, weight: 1_0.0:}", "mine.yaml"),
        ("- {text: A, weight: .inf}", "rubric mine.yaml: the weight of criterion 1 must be a number"),
        ("- {text: A, text: B}", "mine.yaml:1: an object has 'text' twice"),
        ("a: &x [b]\nrubrics: [*x, *x]\n", "mine.yaml:1: is used twice (an alias); write it out"),
        ("&x [*x]", "mine.yaml:1: is used twice"),
        ("[", "mine.yaml:1: is not YAML"),
    ],
)
def test_files_that_hold_no_rubric(text: str, said: str) -> None:
    """Catches a mistake without the file's name, and aliases of aliases, which never end."""
    with pytest.raises(InputError) as caught:
        parse_rubric(text, "mine.yaml")
    assert said in str(caught.value)
