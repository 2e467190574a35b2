"""Method salmon: what is asked, the arithmetic by hand and by property, sharing, and the promise of the same bits."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preftree.engine.errors import InputError, ModelError
from preftree.labeling import cli
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.principle_labels import AGGREGATES, PrincipleScore, SalmonLabel
from preftree.labeling.methods.registry import open_method
from preftree.labeling.methods.salmon import Salmon
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.pipeline import label_samples
from preftree.labeling.principles.principle import Principle
from preftree.labeling.principles.sets import load_principles
from preftree.labeling.prompts.catalogue import load_template, parse_template
from preftree.labeling.types import Message, Pair, RequestScores
from tests.labeling.fakes import row, write_rows
from tests.labeling.queried import queried
from tests.models import SMALL_CONFIG, write_model

OpenScorer = Callable[..., Judge]
PAIR = Pair("1", (Message("user", "QQQ"),), "AAA", "BBB", "a")
TEMPLATE = load_template("salmon")
INVERTED = replace(TEMPLATE, invert=True)
LOGPROB = st.floats(-60, 0)
FOUR = st.lists(st.tuples(LOGPROB, LOGPROB, LOGPROB, LOGPROB), min_size=3, max_size=3)


def named(*weights: float) -> tuple[Principle, ...]:
    """Principles p1, p2, ... of these weights."""
    numbered = enumerate(weights, 1)
    return tuple(Principle(f"p{n}", f"Statement {n}.", f"Opposite {n}.", weight) for n, weight in numbered)


def scores(first: float, second: float, mass: float = 0.9) -> RequestScores:
    return RequestScores.single((first, second), mass, 10)


def judged(*both: tuple[float, float], rule: str = "strongest", weights: Sequence[float] | None = None) -> SalmonLabel:
    """The label for principles with these (s12, s21)."""
    method = Salmon(TEMPLATE, named(*(weights or [1.0] * len(both))), rule)
    asked = [scores(s12 - 50, -50) for s12, _ in both] + [scores(-s21 - 50, -50) for _, s21 in both]
    return method.aggregate(PAIR, asked)


# what is asked


def test_every_principle_asks_in_both_orders() -> None:
    """Catches a principle or an order left out, negative statements judged, and answers under another's title."""
    method = Salmon(TEMPLATE, named(1, 1, 1))
    requests = method.requests(PAIR)
    assert [request.title for request in requests] == [
        "p1, A first", "p2, A first", "p3, A first", "p1, B first", "p2, B first", "p3, B first",
    ]  # fmt: skip
    for number, request in enumerate(requests):
        shown_a_first = request.user.index("AAA") < request.user.index("BBB")
        assert shown_a_first == (number < 3)
        assert request.user.endswith(f"Statement {number % 3 + 1}.")
        assert "Opposite" not in request.user
    assert len({request.user.removesuffix(f"{n}.") for request in requests[:3] for n in "123"}) == 4, "share all else"


def test_the_template_of_the_method() -> None:
    """Catches text behind the principle, which every principle would have to compute anew."""
    assert TEMPLATE.principle_is_last
    assert TEMPLATE.body.endswith("{{ principle }}")
    assert not TEMPLATE.invert
    assert {exemplar.label for exemplar in TEMPLATE.exemplars} == set(TEMPLATE.labels)
    assert Salmon(TEMPLATE, named(1), exemplars=2).requests(PAIR)[0].user.count("### Principle") == 3


def test_labels_are_distinct_on_the_embedded_model(embedded_scorer: OpenScorer) -> None:
    """Catches labels that merge with what stands before them, as "(a" does in some vocabularies."""
    scorer = embedded_scorer()
    assert [len(label) for label in scorer.encode(Salmon(TEMPLATE, named(1)).requests(PAIR)[0]).labels] == [1, 1]
    letters = parse_template(TEMPLATE.source.replace('"1"', '"a"').replace('"2"', '"b"'), "letters")
    with pytest.raises(ModelError, match="label 'a' merges with the answer start"):
        scorer.encode(Salmon(letters, named(1)).requests(PAIR)[0])


def test_sixteen_principles_run_over_a_sixth_of_their_tokens() -> None:
    """Catches a principle that is shown before the responses, which makes a label about six times as dear."""
    words = "water stone early green seven paper morning window answer quiet river because bread yellow garden north"
    rotated = [" ".join((words.split() * 13)[start : start + 190]) for start in range(12)]
    pairs = [Pair(str(n), (Message("user", rotated[n]),), rotated[n + 4], rotated[n + 8]) for n in range(4)]
    sixteen = (*load_principles("default"), *named(1, 1))
    scorer = Judge.load("embedded", weights=False)
    lengths = [len(scorer.tokenizer.encode(text)) for text in rotated]
    assert 190 <= min(lengths) <= max(lengths) <= 210

    def shares(template: str) -> float:
        method = Salmon(parse_template(template, "t"), sixteen)
        plan = scorer.plan([scorer.encode(request) for pair in pairs for request in method.requests(pair)])
        assert plan.prompts == 4 * 32
        return plan.prompt_tokens / plan.rows

    assert shares(TEMPLATE.source) >= 6
    head, _, body = TEMPLATE.source.rpartition("---\n")
    early = f"{head}---\n{{{{ principle }}}}\n{body.replace('{{ principle }}', '')}"
    assert shares(early) < 2


# arithmetic


def test_scores_by_hand() -> None:
    """P(first) of 0.8 and 0.4: A leads by ln 4 shown first, and by ln 1.5 shown second."""
    asked = [scores(math.log(0.8), math.log(0.2), 0.7), scores(math.log(0.4), math.log(0.6), 0.3)]
    label = Salmon(TEMPLATE, named(1)).aggregate(PAIR, asked)
    (score,) = label.principles
    assert (score.s12, score.s21) == (pytest.approx(math.log(4)), pytest.approx(math.log(1.5)))
    assert score.score == pytest.approx(math.log(6) / 2)
    assert score.p == pytest.approx(math.sqrt(6) / (1 + math.sqrt(6)))
    assert score.consistent
    assert (score.label_mass_first, score.label_mass_second) == (0.7, 0.3)
    assert (label.verdict, label.aggregate.decided_by, label.prompt_tokens) == ("a", "p1", 20)
    assert label.values() == {
        "p_a": score.p, "verdict": "a", "decided_by": "p1", "margin": score.score, "consistent": 1,
        "principles": [score.values()],
    }  # fmt: skip
    assert list(label.values()) == list(SalmonLabel.COLUMNS)
    assert list(score.values()) == list(PrincipleScore.FIELDS)


@pytest.mark.parametrize("both", [(3.0, -1.0), (-1.0, 3.0), (3.0, 0.0), (0.0, -3.0), (0.0, 0.0)])
def test_what_contradicts_itself_is_a_tie(both: tuple[float, float]) -> None:
    """Catches a position-biased principle that decides, and its raw score lost."""
    for rule in AGGREGATES:
        label = judged(both, rule=rule)
        assert (label.verdict, label.aggregate.margin, label.aggregate.p_a) == ("tie", 0.0, 0.5)
        assert label.aggregate.decided_by is None
        assert label.principles[0].score == sum(both) / 2
        assert not label.principles[0].consistent
    label = judged(both, (-0.5, -0.5))
    assert (label.verdict, label.aggregate.decided_by) == ("b", "p2")


def test_the_strongest_decides() -> None:
    label = judged((1.0, 1.0), (-2.0, -4.0), (2.0, 2.0))
    assert (label.verdict, label.aggregate.decided_by, label.aggregate.margin) == ("b", "p2", -3.0)
    assert label.aggregate.p_a == pytest.approx(1 / (1 + math.exp(3)))
    label = judged((0.0, 0.0), (2.0, 2.0), (-2.0, -2.0))
    assert (label.verdict, label.aggregate.decided_by) == ("a", "p2"), "of two as strong the first"


def test_the_strongest_of_scaled_scores_decides() -> None:
    """Catches a margin in units that no probability follows from, a standard deviation, and a division by 0."""
    method = Salmon(TEMPLATE, named(1, 1, 1), "scaled", variances={"p1": 4.0, "p2": 0.5, "p3": 0.0})

    def decided(*means: float) -> tuple[str | None, float]:
        asked = [scores(mean, 0.0) for mean in means] + [scores(0.0, mean) for mean in means]
        found = method.aggregate(PAIR, asked).aggregate
        assert found.p_a == pytest.approx(1 / (1 + math.exp(-found.margin)))
        return found.decided_by, found.margin

    assert decided(3.0, -1.0, 1.5) == ("p2", -1.0)
    assert decided(3.0, -0.25, 0.25) == ("p1", 3.0)
    assert decided(3.0, -0.25, 1.0) == ("p3", 1.0)
    assert decided(8.0, -1.0, 0.0) == ("p1", 8.0)
    assert decided(0.0, 0.0, 0.0) == (None, 0.0)


def test_weighted() -> None:
    label = judged((1.0, 1.0), (-2.0, -2.0), (8.0, -4.0), rule="weighted", weights=[3.0, 1.0, 4.0])
    assert label.aggregate.margin == pytest.approx((3 * 1 - 2) / 8)
    assert label.aggregate.p_a == pytest.approx(1 / (1 + math.exp(-1 / 8)))
    assert (label.verdict, label.aggregate.decided_by) == ("a", None)
    huge = judged((1.0, 1.0), (-2.0, -2.0), rule="weighted", weights=[1e308, 1e308])
    assert huge.aggregate.margin == -0.5


def test_won() -> None:
    label = judged((1.0, 1.0), (0.1, 0.1), (-9.0, -9.0), (8.0, -4.0), rule="won")
    assert label.aggregate.p_a == 0.625
    assert label.aggregate.margin == 0.25
    assert judged((1.0, 1.0), (-5.0, -5.0), rule="won").verdict == "tie"


@pytest.mark.parametrize("rule", [*AGGREGATES])
def test_weight_zero_never_decides(rule: str) -> None:
    label = judged((1.0, 1.0), (-9.0, -9.0), rule=rule, weights=[1.0, 0.0])
    assert label == replace(judged((1.0, 1.0), rule=rule), principles=label.principles, prompt_tokens=40)
    assert label.principles[1].score == -9.0


def flat(label: SalmonLabel) -> list[float]:
    return [number for one in label.principles for number in (one.s12, one.s21, one.score)]


@given(FOUR, st.sampled_from([*AGGREGATES]), st.sampled_from([TEMPLATE, INVERTED]))
def test_swapping_is_exact(numbers: list[tuple[float, ...]], rule: str, template: object) -> None:
    """Catches 1 - p and -s that differ in the last bit, and a decider that depends on which response is called A."""
    method = Salmon(template, named(1, 0.3, 2), rule)  # type: ignore[arg-type]
    if rule == "scaled":
        method = replace(method, variances={"p1": 0.1, "p2": 3.0, "p3": 0.7})
    a_first = [scores(one[0], one[1]) for one in numbers]
    b_first = [scores(one[2], one[3]) for one in numbers]
    straight, swapped = method.aggregate(PAIR, a_first + b_first), method.aggregate(PAIR.swap(), b_first + a_first)
    assert_flipped(straight, swapped)
    inverse = replace(method, template=INVERTED if template is TEMPLATE else TEMPLATE)
    negated = inverse.aggregate(PAIR, a_first + b_first)
    assert flat(negated) == [-number for number in flat(straight)]
    assert negated.aggregate.p_a == 1 - straight.aggregate.p_a


def assert_flipped(straight: SalmonLabel, swapped: SalmonLabel) -> None:
    for one, other in zip(straight.principles, swapped.principles, strict=True):
        assert (other.s12, other.s21, other.score) == (-one.s21, -one.s12, -one.score)
        assert other.p == 1 - one.p
        assert one.p == 1 - other.p
        assert other.consistent == one.consistent
        assert other.label_mass_first == one.label_mass_second
    assert swapped.aggregate.margin == -straight.aggregate.margin
    assert swapped.aggregate.p_a == 1 - straight.aggregate.p_a
    assert swapped.aggregate.decided_by == straight.aggregate.decided_by
    assert swapped.verdict == {"a": "b", "b": "a", "tie": "tie"}[straight.verdict]


@given(FOUR, st.permutations(range(3)))
def test_order_of_principles_does_not_matter(numbers: list[tuple[float, ...]], order: list[int]) -> None:
    """Catches sums that round by order, and scores under another principle's name."""
    for rule in AGGREGATES:
        method = Salmon(TEMPLATE, named(1, 0.3, 2), rule)
        label = method.aggregate(PAIR, [scores(*one[:2]) for one in numbers] + [scores(*one[2:]) for one in numbers])
        moved = [numbers[index] for index in order]
        other = replace(method, principles=tuple(method.principles[index] for index in order)).aggregate(
            PAIR, [scores(*one[:2]) for one in moved] + [scores(*one[2:]) for one in moved]
        )
        assert sorted(other.principles, key=lambda one: one.name) == list(label.principles)
        if len({abs(one.counted) for one in label.principles}) == 3:
            assert other.aggregate == label.aggregate


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_label(bad: float) -> None:
    with pytest.raises(InputError, match="not finite"):
        Salmon(TEMPLATE, named(1)).aggregate(PAIR, [scores(-1, -2), scores(bad, -1.0)])


# options and records


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"template": "general"}, "template general never shows {{ principle }}"),
        ({"template": "direct"}, "template direct shows one response; method salmon compares two"),
        ({"aggregate": "loudest"}, "--aggregate cannot be 'loudest'; use one of strongest, weighted, won"),
        ({"principles": "nowhere"}, "principles 'nowhere' are neither a file nor one of"),
        ({"exemplars": 3}, "it has 2 exemplars, 3 were asked for"),
    ],
)
def test_options_that_cannot_be(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        open_method(JudgeOptions(input="x", method="salmon", **options))  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_a_record_asks_the_same_again(tmp_path: Path) -> None:
    """Catches prompts shown with principles or a template that were edited since."""
    path = tmp_path / "mine.yaml"
    entry = "- {name: kind, positive: The response should be kind., negative: The response should be rude., weight: 2}"
    path.write_text(entry)
    options = JudgeOptions(input="x", method="salmon", principles=str(path), aggregate="won", exemplars=1)
    method = open_method(options)
    record = json.loads(json.dumps(method.record()))
    path.unlink()
    assert open_method(options, record) == method
    assert record["aggregate"] == "won"
    assert record["principles"][0]["weight"] == 2


# a model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG)


def some_pairs() -> list[Pair]:
    texts = ["rain is wet", "bread is made of flour and water", "no", "the honest answer is that nobody knows it"]
    pairs = [
        Pair(f"{n}", (Message("user", f"What of {texts[n]}?"),), texts[n], texts[(n + 1) % 4], "ab"[n % 2])  # type: ignore[arg-type]
        for n in range(4)
    ]
    return [*pairs, pairs[0]._replace(id="same", response_b=pairs[0].response_a)]


def label(scorer: Judge, pairs: Sequence[Pair], principles: Sequence[Principle]) -> dict[str, SalmonLabel]:
    method = Salmon(TEMPLATE, tuple(principles))
    return {done.item.id: done.label for done in label_samples(pairs, method, scorer) if done.label}  # type: ignore[misc]


def test_a_score_is_the_same_bits_in_any_company(model: Path) -> None:
    """Catches a score that depends on the principles beside it, on their order, on other pairs or on batches."""
    eleven, pairs = load_principles("labelled"), some_pairs()
    everything = label(Judge.load(str(model)), pairs, eleven)
    by_name = {(key, one.name): one for key, made in everything.items() for one in made.principles}
    assert len(by_name) == 5 * 11

    def compare(found: dict[str, SalmonLabel]) -> None:
        for key, made in found.items():
            for one in made.principles:
                assert one == by_name[key, one.name]

    compare(label(Judge.load(str(model)), pairs[1:2], eleven[4:5]))
    compare(label(Judge.load(str(model)), pairs[::-1], eleven[::-1]))
    compare(label(Judge.load(str(model), batch_tokens=100), pairs[:3], eleven[2:5]))
    assert len({one.score for made in everything.values() for one in made.principles}) > 20, "scores differ at all"


def test_swapped_pairs_get_flipped_scores(model: Path) -> None:
    three, pairs = load_principles("reinforcement"), some_pairs()
    straight = label(Judge.load(str(model)), pairs, three)
    swapped = label(Judge.load(str(model)), [pair.swap() for pair in pairs], three)
    for key in straight:
        assert_flipped(straight[key], swapped[key])
    assert straight["same"].verdict == "tie"
    assert {one.score for one in straight["same"].principles} == {0.0}


def test_a_run(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches columns that do not fit the labels, a summary or a record that cannot be made, answers mixed up."""
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [
        row(id=pair.id, prompt=pair.prompt[0].content, response_a=pair.response_a, response_b=pair.response_b, gold="a")
        for pair in some_pairs()
    ]
    source = write_rows(tmp_path / "in.jsonl", [*rows, b"bad"])
    out = tmp_path / "out"
    command = ["label", str(source), "--out", str(out), "--model", str(model), "--method", "salmon"]
    assert cli.main([*command, "--principles", "reinforcement", "--aggregate", "weighted"]) == 3
    summary = capsys.readouterr().out
    for part in (
        "5 pairs labelled",
        "agreement with gold",
        "no-self-praise        ",
        "answer-not-advice     ",
        "correlation",
    ):
        assert part in summary
    labels = parquet.read_table(out / "labels.parquet").to_pylist()
    made = label(Judge.load(str(model)), some_pairs(), load_principles("reinforcement"))
    assert [one["principles"] for one in labels[:5]] == [made[one["id"]].values()["principles"] for one in labels[:5]]
    assert (labels[5]["verdict"], labels[5]["principles"], labels[5]["margin"]) == (None, None, None)
    record = json.loads((out / "run.json").read_text())
    assert record["method"]["aggregate"] == "weighted"
    assert [one["name"] for one in record["quality"]["principles"]] == [one.name for one in made["0"].principles]
    assert cli.main(["show", str(out), "1"]) == 0
    shown = capsys.readouterr().out
    for one in made["1"].principles:
        assert (
            f"answer, {one.name}, A first: score of A {one.s12:+.6f} nats, label mass {one.label_mass_first:.6f}"
            in shown
        )
        assert (
            f"answer, {one.name}, B first: score of A {one.s21:+.6f} nats, label mass {one.label_mass_second:.6f}"
            in shown
        )


# quality


def test_quality_by_hand() -> None:
    """Catches shares over the wrong count, correlations of counted instead of raw scores, and NaN in run.json."""
    both = [
        [(1.0, 3.0), (2.0, 2.0), (0.0, 0.0)],
        [(-1.0, -3.0), (4.0, -1.0), (0.0, 0.0)],
        [(2.0, 4.0), (-3.0, 5.0), (0.0, 0.0)],
    ]
    nothing = queried([], columns=SalmonLabel.COLUMNS)
    assert nothing.lines() == []
    assert nothing.figures()["agreement"] is None
    pairs = (PAIR, PAIR, PAIR._replace(gold=None))
    rows = [(pair, judged(*judgements)) for pair, judgements in zip(pairs, both, strict=True)]
    quality = queried(rows, columns=SalmonLabel.COLUMNS)
    figures = json.loads(json.dumps(quality.figures(), allow_nan=False))
    assert (figures["pairs"], figures["gold_pairs"], figures["agreement"]) == (3, 2, 0.5)
    assert figures["position_bias"] == pytest.approx(2 / 9)
    assert figures["prefers_first"] == 0.5
    one, two, three = figures["principles"]
    assert (one["consistent"], two["consistent"], three["consistent"]) == (1.0, pytest.approx(1 / 3), 0.0)
    assert (one["agreement"], two["agreement"], three["agreement"]) == (0.5, 0.75, 0.5)
    assert (one["decided"], two["decided"]) == (3, 0)
    raw = np.array([[sum(pair) / 2 for pair in judgements] for judgements in both])
    assert one["mean_score"] == pytest.approx(raw[:, 0].mean())
    assert one["score_variance"] == pytest.approx(raw[:, 0].var())
    assert two["mean_gap"] == pytest.approx((0 + 5 - 8) / 3)
    assert figures["correlations"][0][1] == pytest.approx(np.corrcoef(raw.T[:2])[0, 1])
    assert figures["correlations"][0][2] is None
    text = dict(quality.lines())
    assert text["agreement with gold"].startswith("50.0% of 2 pairs (95% interval")
    assert "of p1 and p2" in text["correlation"]
    assert len({len(line) for name, line in quality.lines() if name == "principles"}) == 1, "a table"


def test_the_summary_stays_short() -> None:
    quality = queried([(PAIR, judged(*[(1.0, 1.0)] * 30))], columns=SalmonLabel.COLUMNS)
    assert len(quality.lines()) < 30
    assert ("principles", "and 10 more in run.json") in quality.lines()


def test_a_principle_is_never_a_template() -> None:
    """Catches braces in a statement that are rendered."""
    method = Salmon(TEMPLATE, (Principle("odd", "{{ prompt }} {% raw %}", "x"),))
    assert method.requests(PAIR)[0].user.endswith("{{ prompt }} {% raw %}")
