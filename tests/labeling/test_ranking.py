"""Rankings: which comparisons, their arithmetic, strengths against other ways to find them, permutations to the bit."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from preftree.engine.errors import InputError
from preftree.labeling.methods.bradley_terry import strengths
from preftree.labeling.methods.ranking import MAX_RESPONSES, Ranking
from preftree.labeling.methods.ranking_labels import RankingLabel
from preftree.labeling.methods.registry import open_method
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.options.reading import ShowOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.runs.run import run_label
from preftree.labeling.runs.show import show_lines
from preftree.labeling.types import Message, Pair, PairLabel, RequestScores, ResponseSet, ScoreRequest
from tests.labeling.fakes import fake_scorer_factory, row, write_rows
from tests.labeling.queried import queried
from tests.labeling.test_bradley_terry import random_wins

parquet = pytest.importorskip("pyarrow.parquet")

RANKING = Ranking(Rlaif(load_template("general")))
INVERTED = Ranking(Rlaif(load_template("harmlessness")))
FIVE = ResponseSet("row", (Message("user", "Which?"),), tuple(f"response {name}" for name in "abcde"))


def hashed(request: ScoreRequest) -> RequestScores:
    """Scores that depend on the whole prompt, as a model's do."""
    first, second = (-byte / 40 for byte in hashlib.sha256(request.user.encode()).digest()[:2])
    return RequestScores.single((first, second), 0.5 + math.exp(first) / 4, 10)


def label_of(method: Ranking, sample: ResponseSet) -> RankingLabel:
    return method.aggregate(sample, [hashed(request) for request in method.requests(sample)])


def label_from(wins: Sequence[Sequence[float]], fitted: Sequence[float] = ()) -> RankingLabel:
    pairs = itertools.combinations(range(len(wins)), 2)
    comparisons = tuple((i, j, PairLabel(wins[i][j], wins[i][j], wins[i][j], 0.9, 0.9, 2)) for i, j in pairs)
    return RankingLabel(comparisons, tuple(fitted) or (0.0,) * len(wins), 1)


# which comparisons


def test_every_ordered_pair_is_asked_once_and_neighbours_share() -> None:
    """Catches an order left out, and prompts with the same first response that lie apart."""
    requests = RANKING.requests(FIVE)
    shown = [(a, b) for a, b in itertools.product(range(5), repeat=2) if a != b]
    assert [request.title for request in requests] == [f"response {a} before {b}" for a, b in shown]
    for request, (a, b) in zip(requests, shown, strict=True):
        assert request == replace(
            RANKING.rlaif.requests(Pair("", FIVE.prompt, FIVE.responses[a], FIVE.responses[b]))[0], title=request.title
        )


@pytest.mark.parametrize("number", [8, 10, 14, 18])
def test_some_comparisons(number: int) -> None:
    """Catches one order without the other, a choice that changes from call to call, or that every row has."""
    method = replace(RANKING, comparisons=number)
    requests = method.requests(FIVE)
    asked = {tuple(map(int, request.title.removeprefix("response ").split(" before "))) for request in requests}
    assert len(requests) == len(asked) == number
    assert asked == {(b, a) for a, b in asked}
    assert requests == method.requests(FIVE)
    chosen = {tuple(request.title for request in method.requests(FIVE._replace(id=str(k)))) for k in range(20)}
    assert len(chosen) > 5
    matrix = label_of(method, FIVE).win_matrix
    assert {(i, j) for i in range(5) for j in range(5) if matrix[i][j] is not None} == asked


def test_choice_is_pinned() -> None:
    """Catches a choice that depends on the process (as hash() does) or changes with a version."""
    requests = replace(RANKING, comparisons=8).requests(FIVE)
    titles = [request.title.removeprefix("response ") for request in requests]
    assert titles == [
        "0 before 2",
        "0 before 3",
        "1 before 2",
        "2 before 0",
        "2 before 1",
        "3 before 0",
        "3 before 4",
        "4 before 3",
    ]


def test_more_comparisons_than_there_are_is_all() -> None:
    assert replace(RANKING, comparisons=1000).requests(FIVE) == RANKING.requests(FIVE)


def test_comparisons_that_do_not_connect() -> None:
    """Catches strengths of groups that never met, compared all the same."""
    with pytest.raises(InputError, match="too few comparisons: 5 responses need 8 to be connected, --comparisons is 6"):
        replace(RANKING, comparisons=6).requests(FIVE)


def test_a_row_that_would_fill_memory() -> None:
    """Catches a million prompts of one row."""
    with pytest.raises(InputError, match="too many responses: 101, at most 100"):
        RANKING.requests(FIVE._replace(responses=tuple(map(str, range(MAX_RESPONSES + 1)))))


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_comparisons_come_in_twos(number: int) -> None:
    """Catches an odd comparison dropped in silence."""
    with pytest.raises(InputError, match=f"an even number from 4, .* not {number}"):
        open_method(JudgeOptions(input="", method="ranking", comparisons=number))


def test_opened() -> None:
    """Catches an option that does not arrive, and a recorded template that is not used."""
    options = JudgeOptions(input="", method="ranking", comparisons=4, preamble="base", exemplars=1)
    method = open_method(options)
    assert method == Ranking(Rlaif(load_template("general"), "base", 1), 4)
    record = method.record() | {"template": load_template("harmlessness").record()}
    again = open_method(options, json.loads(json.dumps(record)))
    assert isinstance(again, Ranking)
    assert again.rlaif.template.invert


# arithmetic of comparisons


@pytest.mark.parametrize("method", [RANKING, INVERTED])
def test_a_comparison_is_rlaifs(method: Ranking) -> None:
    """Catches orders mixed up, an inversion left out or done twice, and a p that is not on RLAIF's grid."""
    label = label_of(method, FIVE)
    for i, j in itertools.permutations(range(5), 2):
        pair = Pair("", FIVE.prompt, FIVE.responses[i], FIVE.responses[j])
        own = method.rlaif.aggregate(pair, [hashed(request) for request in method.rlaif.requests(pair)])
        assert label.win_matrix[i][j] == own.p_a
        assert label.win_matrix_first[i][j] == own.p_a_first
        assert 1 - label.win_matrix[j][i] == own.p_a  # type: ignore[operator]
    assert [label.win_matrix[i][i] for i in range(5)] == [None] * 5
    assert label.prompt_tokens == 200


def test_gap_and_mass_by_hand() -> None:
    """Catches a gap with the wrong sign, and a mass of one order only."""
    two = FIVE._replace(responses=("x", "y"))
    likes_first = RequestScores.single((math.log(0.6), math.log(0.2)), 0.8, 7)
    undecided = RequestScores.single((math.log(0.1), math.log(0.1)), 0.2, 5)
    label = RANKING.aggregate(two, [likes_first, undecided])
    assert label.win_matrix == [[None, pytest.approx(0.625)], [pytest.approx(0.375), None]]
    assert label.win_matrix_first == [[None, pytest.approx(0.75)], [pytest.approx(0.5), None]]
    assert label.position_gap_mean == pytest.approx(0.25)
    assert label.label_mass_min == 0.2
    assert label.prompt_tokens == 12
    assert (label.ranking, label.best, label.worst, label.tied) == ([0, 1], 0, 1, [])
    assert label.p_best == pytest.approx(0.625, abs=1e-4)


def test_scores_that_are_not_finite() -> None:
    scores = [hashed(request) for request in RANKING.requests(FIVE)]
    with pytest.raises(InputError, match="not finite"):
        RANKING.aggregate(FIVE, [*scores[:-1], RequestScores.single((math.nan, -1.0), 0.5, 10)])


# rankings


def test_ties_go_by_index_and_are_noted() -> None:
    """Catches a tie decided by rounding errors, or broken without a word."""
    label = label_from([[0.5] * 4] * 4, (0.1, 0.3, 0.3 + 1e-12, -0.7))
    assert label.ranking == [1, 2, 0, 3]
    assert label.tied == [[1, 2]]
    assert (label.best, label.worst) == (1, 3)
    circle = np.array([[np.nan, 0.9, 0.1], [0.1, np.nan, 0.9], [0.9, 0.1, np.nan]])
    assert label_from(circle.tolist(), strengths(circle).tolist()).tied == [[0, 1, 2]]


def test_equal_responses_are_no_pair() -> None:
    """Catches the same text as best and worst, to be trained on."""
    label = label_of(RANKING, FIVE._replace(responses=("same", "same", "same")))
    assert (label.best, label.worst, label.p_best) == (None, None, None)
    assert label.ranking == [0, 1, 2]
    assert label.tied == [[0, 1, 2]]
    assert {p for line in label.win_matrix for p in line} == {None, 0.5}
    label = label_of(RANKING, FIVE._replace(responses=("same", "other", "same")))
    assert label.tied == [[0, 2]]


@pytest.mark.parametrize("number", [None, 8, 12])
def test_permuting_responses_permutes_the_result(number: int | None) -> None:
    """To the bit. Catches a fit or a choice of comparisons that depends on where in the row a response stands."""
    method = replace(RANKING, comparisons=number)
    label = label_of(method, FIVE)
    for order in random.Random(0).sample(list(itertools.permutations(range(5))), 30):
        moved = label_of(method, FIVE._replace(responses=tuple(FIVE.responses[index] for index in order)))
        assert moved.strengths == tuple(label.strengths[index] for index in order)
        assert moved.win_matrix == [[label.win_matrix[i][j] for j in order] for i in order]
        assert moved.win_matrix_first == [[label.win_matrix_first[i][j] for j in order] for i in order]
        assert [order[index] for index in moved.ranking] == label.ranking
        assert (moved.position_gap_mean, moved.label_mass_min) == (label.position_gap_mean, label.label_mass_min)
        assert moved.p_best == label.p_best


def test_a_mean_gap_does_not_depend_on_the_order_of_comparisons() -> None:
    """Catches a running sum, whose last bits move when responses are permuted."""
    gaps = np.random.default_rng(4).random(45).tolist()
    pairs = itertools.combinations(range(10), 2)
    comparisons = [
        (i, j, PairLabel(0.5, 0.5 + g / 2, 0.5 - g / 2, 1, 1, 2)) for (i, j), g in zip(pairs, gaps, strict=True)
    ]
    shuffles = [random.Random(seed).sample(comparisons, 45) for seed in range(20)]
    assert len({RankingLabel(tuple(some), (0.0,) * 10, 1).position_gap_mean for some in shuffles}) == 1


# quality


def test_circular_triads_against_counting() -> None:
    """Catches triads counted twice, and ties taken for wins."""
    draws = np.random.default_rng(2)
    for _ in range(40):
        size = int(draws.integers(2, 9))
        wins = np.nan_to_num(random_wins(draws, size), nan=0.5).tolist()
        all_triads = circular = 0
        for i, j, k in itertools.combinations(range(size), 3):
            if 0.5 not in (wins[i][j], wins[j][k], wins[k][i]):
                all_triads += 1
                circular += (wins[i][j] > 0.5) == (wins[j][k] > 0.5) == (wins[k][i] > 0.5)
        row = FIVE._replace(responses=tuple(map(str, range(size))))
        figures = queried([(row, label_from(wins))], columns=RankingLabel.COLUMNS).figures()
        assert (figures["triads"], figures["circular_triads"]) == (all_triads, circular)


def test_quality_by_hand() -> None:
    """Catches figures of some of the comparisons, and bias counted by row."""
    nothing = queried([], columns=RankingLabel.COLUMNS)
    assert nothing.lines() == []
    assert nothing.figures()["circular_share"] is None
    beats = {(0, 1): (0.9, 0.8), (1, 2): (0.9, 0.3), (0, 2): (0.2, 0.1)}  # by i shown first, second
    comparisons = tuple((i, j, PairLabel((p + q) / 2, p, q, 0.9, 0.4, 2)) for (i, j), (p, q) in beats.items())
    several = FIVE._replace(responses=("x", "long", "longer"))
    label = RankingLabel(comparisons, (0.1, 0.0, -0.1), 6)
    quality = queried([(several, label)], columns=RankingLabel.COLUMNS)
    figures = quality.figures()
    assert (figures["rows"], figures["pairs"], figures["triads"], figures["circular_triads"]) == (1, 3, 1, 1)
    assert figures["circular_share"] == 1.0
    assert figures["position_bias"] == pytest.approx(1 / 3)
    assert figures["mean_gap"] == pytest.approx((0.1 + 0.6 + 0.1) / 3)
    assert figures["mean_label_mass"] == pytest.approx(0.65)
    assert figures["low_mass"] == 3
    assert figures["length_bias"]["chose_longer"] == pytest.approx(1 / 3)
    assert not [name for name in figures if "gold" in name or "calibration" in name]
    lines = dict(quality.lines())
    assert lines["comparisons"] == "3 pairs of responses, each in both orders"
    assert lines["circular triads"].startswith("100.0%: 1 of 1 triad ")
    assert "win rate of A" not in lines  # the responses of a row come in any order
    assert "win_rate" not in figures


# a run


def test_run_and_show(tmp_path: Path) -> None:
    """Catches columns of the wrong type, rows too small for --comparisons, and answers shown with other prompts."""
    four = {"response_a": None, "response_b": None, "responses": ["one", "two", "three", "four"]}
    rows = [row(id="r", **four), row(id="big", **four | {"responses": [str(k) for k in range(9)]}), row(id="pair")]
    source = write_rows(tmp_path / "in.jsonl", rows)
    options = LabelOptions(
        input=str(source), out=str(tmp_path / "out"), quiet=True, method="ranking", comparisons=8, template="general"
    )
    summary = run_label(options, fake_scorer_factory())
    assert (summary.ok, summary.noun) == (1, "row")
    assert list(summary.rejections.kinds) == ["too few comparisons", "wrong kind"]
    [ranked, *_] = parquet.read_table(tmp_path / "out" / "labels.parquet").to_pylist()
    assert sorted(ranked["ranking"]) == [0, 1, 2, 3]
    assert ranked["best"] == ranked["ranking"][0]
    assert sum(p is not None for line in ranked["win_matrix"] for p in line) == 8
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["quality"]["pairs"] == 4
    assert record["method"]["comparisons"] == 8
    text = "\n".join(show_lines(ShowOptions(run=str(tmp_path / "out"), id="r"), fake_scorer_factory()))
    assert text.count("---- prompt, ") == text.count("---- answer, ") == 8
    for i, j in itertools.permutations(range(4), 2):
        if (p := ranked["win_matrix_first"][i][j]) is not None:
            answer = f"---- answer, response {i} before {j}: response {i} is better than {j} with p {p:.6f} ----"
            assert text.count(answer) == 1


def test_a_row_with_one_response_is_found_before_the_model_loads(tmp_path: Path) -> None:
    """Catches a run of hours at whose end somebody learns that a list was cut off."""
    rows = [{"prompt": "q", "responses": ["x", "y"]}, {"prompt": "q", "responses": ["x"]}]
    source = write_rows(tmp_path / "in.jsonl", rows)
    options = LabelOptions(input=str(source), out=str(tmp_path / "out"), method="ranking", model="/nowhere")
    with pytest.raises(InputError, match="line 2: responses has one entry; ranking needs two or more"):
        run_label(options)
