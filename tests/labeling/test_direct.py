"""Direct scores: the arithmetic by hand, the scales that are refused, and a whole run against exact probabilities."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preftree import Engine
from preftree.engine.errors import InputError
from preftree.labeling import cli
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.direct import Direct, opened
from preftree.labeling.methods.scale import Scale, scale_labels, scale_of
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.pipeline import label_samples
from preftree.labeling.prompts.catalogue import Template, load_template, parse_template
from preftree.labeling.runs import run
from preftree.labeling.types import Label, Message, Pair, RequestScores, Response, Sample, Verdict
from tests.labeling.fakes import write_rows
from tests.labeling.queried import queried
from tests.models import CONFIG, SMALL_CONFIG, tokenizer_data, write_model

PROMPT = (Message("user", "q"),)
SINGLE = Response("1", PROMPT, "AAA")
PAIR = Pair("1", PROMPT, "AAA", "BBB", "a")
ONE_TO_TEN = Scale(tuple(map(float, range(1, 11))))
TEXT = load_template("direct").source
LABELS = TEXT.split("\n")[2]


def scores(*probabilities: float, tokens: int = 10) -> RequestScores:
    return RequestScores.single(tuple(np.log(probabilities).tolist()), sum(probabilities), tokens)


def direct(**changes: Any) -> Direct:
    return opened(JudgeOptions(input="x", method="direct", **changes), None)


# arithmetic


def test_a_score_by_hand() -> None:
    """Catches a mean of labels that were not renormalised, and an entropy in bits."""
    score = Scale((1.0, 2.0, 3.0)).score(scores(0.1, 0.1, 0.2))
    assert score.distribution == pytest.approx((0.25, 0.25, 0.5))
    assert score.score == pytest.approx(2.25)
    assert score.reward == pytest.approx(0.25)
    assert score.mode == 3.0
    assert score.entropy == pytest.approx(0.5 * math.log(4) + 0.5 * math.log(2))
    assert score.label_mass == pytest.approx(0.4)


def test_the_papers_rescaling() -> None:
    """Catches another scale than (s - 5.5) / 4.5: the ends are -1 and 1, and all equally probable is 0."""
    for value in range(1, 11):
        certain = RequestScores.single(tuple(0.0 if number == value else -1000.0 for number in range(1, 11)), 1.0, 10)
        score = ONE_TO_TEN.score(certain)
        assert (score.score, score.mode, score.entropy) == (value, value, 0.0)
        assert score.reward == pytest.approx((value - 5.5) / 4.5, abs=1e-15)
    uniform = ONE_TO_TEN.score(scores(*[0.1] * 10))
    assert (uniform.score, uniform.reward) == (pytest.approx(5.5), pytest.approx(0.0))
    assert uniform.entropy == pytest.approx(math.log(10))


@given(st.lists(st.floats(-2000, 0), min_size=10, max_size=10), st.booleans())
def test_every_number_keeps_its_range(logprob: list[float], invert: bool) -> None:
    """Catches sums of rounded shares beyond the ends, log(0) of a hopeless label, and an entropy of -0.0."""
    score = Scale(ONE_TO_TEN.values, invert).score(RequestScores.single(tuple(logprob), 0.5, 10))
    assert 1.0 <= score.score <= 10.0
    assert -1.0 <= score.reward <= 1.0
    assert math.copysign(1.0, score.entropy) == 1.0
    assert score.entropy <= math.log(10) + 1e-12
    assert math.fsum(score.distribution) == pytest.approx(1.0, abs=1e-15)
    assert min(score.distribution) >= 0.0


def test_invert_flips_the_reward_alone() -> None:
    """Catches a template that asks how harmful a response is and rewards harm; the answer itself stays as it was."""
    straight, inverted = Scale((0.0, 1.0)), Scale((0.0, 1.0), invert=True)
    asked = scores(0.1, 0.3)
    assert inverted.score(asked).reward == -straight.score(asked).reward == pytest.approx(-0.5)
    assert inverted.score(asked).score == straight.score(asked).score
    label = Direct(parse_template(TEXT.replace("invert: false", "invert: true"), "t")).aggregate(
        PAIR, [scores(*[0.02] * 9, 0.5), scores(0.5, *[0.02] * 9)]
    )
    assert label.verdict == "b"


@pytest.mark.parametrize("values", [(-1.7e308, 1.7e308), (1.0, 0.0), (-3.0, 0.5, 8.0), (1e-300, 2e-300)])
def test_odd_values(values: tuple[float, ...]) -> None:
    """Catches a range that overflows, values that run downwards, and a middle that is taken for their mean."""
    for place, value in enumerate(values):
        logprob = tuple(0.0 if number == place else -1000.0 for number in range(len(values)))
        score = Scale(values).score(RequestScores.single(logprob, 1.0, 1))
        assert score.score == value
        assert score.reward == pytest.approx({min(values): -1.0, max(values): 1.0}.get(value, (0.5 - 2.5) / 5.5))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_label(bad: float) -> None:
    """Catches a broken model whose scores are nan, or a respectable mean over the labels that were left."""
    for broken in (RequestScores.single((bad, *[-1.0] * 9), 1.0, 10), RequestScores.single((-1.0,) * 10, bad, 10)):
        with pytest.raises(InputError, match="not finite"):
            direct().aggregate(SINGLE, [broken])


# samples


def test_each_response_has_a_prompt_of_its_own() -> None:
    """Catches a judge that sees the other response, too."""
    [only] = direct().requests(SINGLE)
    assert "AAA" in only.user
    first, second = direct().requests(PAIR)
    assert ("AAA" in first.user, "BBB" in first.user) == (True, False)
    assert ("AAA" in second.user, "BBB" in second.user) == (False, True)
    assert first == type(first)(**{**vars(only), "title": first.title})
    assert only.labels == tuple(map(str, range(1, 11)))


def test_one_set_of_columns_serves_both_kinds() -> None:
    """Catches a verdict invented for a single response, and responses whose columns are exchanged."""
    low, high = scores(*[0.09] * 9, 0.01), scores(*[0.01] * 9, 0.09)
    single = direct().aggregate(SINGLE, [high]).values()
    pair = direct().aggregate(PAIR, [high, low]).values()
    assert list(single) == list(pair) == list(direct().columns)
    assert single["verdict"] is None
    assert {name for name, value in single.items() if value is not None} == {
        "score", "reward", "mode", "entropy", "label_mass", "distribution"
    }  # fmt: skip
    assert pair["verdict"] == "a"
    assert pair["score"] is None
    assert (pair["score_a"], pair["distribution_a"]) == (single["score"], single["distribution"])
    assert pair["reward_a"] > pair["reward_b"]
    assert direct().aggregate(PAIR, [low, high]).verdict == "b"
    assert direct().aggregate(PAIR, [low, low]).verdict == "tie"
    assert direct().aggregate(PAIR, [low, high]).prompt_tokens == 20


def test_answers_are_told_from_the_columns() -> None:
    """Catches `preftree show` giving A's score for B."""
    label = direct().aggregate(PAIR, [scores(*[0.01] * 9, 0.09), scores(0.09, *[0.01] * 9)])
    first, second = direct().answers(label.values())
    assert first.startswith(f"score {label.scores[0].score:.6f}, reward +")
    assert second.startswith(f"score {label.scores[1].score:.6f}, reward -")
    [only] = direct().answers(direct().aggregate(SINGLE, [scores(*[0.1] * 10)]).values())
    assert only == "score 5.500000, reward +0.000000, mode 1, entropy 2.302585, label mass 1.000000"


# scales


def test_scale_replaces_the_labels_and_what_the_judge_is_told() -> None:
    """Catches labels 1 to 5 behind a question for 1 to 10, and template values kept beside other labels."""
    method = direct(scale="0-4")
    [request] = method.requests(SINGLE)
    assert request.labels == ("0", "1", "2", "3", "4")
    assert "from 0 (very poor) to 4 (excellent)" in request.user
    assert method.scale.values == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert method.record()["template"]["labels"] == ["0", "1", "2", "3", "4"]
    again = opened(JudgeOptions(input="x", method="direct", scale="0-4"), method.record())
    assert again.requests(SINGLE) == method.requests(SINGLE)
    assert direct(template="direct-yes-no").scale.values == (1.0, 0.0)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ("1-1", "has one value"),
        ("5-1", "runs downwards; write 1-5"),
        ("0-100", "has 101 values; 100 is the limit"),
        ("1-999999999", "has 999,999,999 values"),
        ("1-9999999999", "is not LOW-HIGH"),
        ("-5-5", "is not LOW-HIGH"),
        ("1-2.5", "is not LOW-HIGH"),
        ("01-10", "is not LOW-HIGH"),
        ("a-b", "is not LOW-HIGH"),
        ("1-inf", "is not LOW-HIGH"),
        ("1 - 5", "is not LOW-HIGH"),
        ("\u0661-\u0665", "is not LOW-HIGH"),
        ("", "is not LOW-HIGH"),
        ("10", "is not LOW-HIGH"),
    ],
)
def test_scales_that_are_none(scale: str, message: str) -> None:
    """Catches a scale on which every reward is nan, or a million labels a prompt."""
    with pytest.raises(InputError, match=message):
        scale_labels(scale)


def test_the_longest_scale() -> None:
    """Catches a limit that is off by one, and labels that stop before the upper end."""
    assert scale_labels("1-100") == tuple(map(str, range(1, 101)))


@pytest.mark.parametrize(
    ("old", "new", "options", "message"),
    [
        (LABELS, "labels: [A, B]", {}, "t.txt:3: 'labels': 'A' is no number; give every label one, such as 'values:"),
        (LABELS, "labels: ['1', nan]", {}, "t.txt:3: 'labels': 'nan' is no number"),
        (LABELS, f"labels: ['1', '{'9' * 400}']", {}, "t.txt:3: 'labels': "),
        (LABELS, "labels: ['1', '1.0']", {}, "t.txt:3: 'labels': '1' and '1.0' stand for the same number, 1"),
        (LABELS, "labels: [A, B]\nvalues: [2, 2]", {}, "t.txt:4: 'values': 'A' and 'B' stand for the same number, 2"),
        (LABELS, "labels: [A, B]\nvalues: [0, 5.0e-324]", {}, "t.txt:4: 'values': the numbers are too close"),
        (LABELS, f"labels: [{', '.join(map(str, range(101)))}]", {}, "t.txt:3: there are 101 labels; 100 is the limit"),
        ("{{ low }}", "1", {"scale": "1-5"}, "the sample does not show {{ low }}: the judge would not hear of scale"),
        ("x", "x", {"scale": "1-5", "exemplars": 1}, "t.txt:13: exemplar 1 is answered '9', which is not on scale 1-5"),
        ("{{ response }}", "{{ response_1 }} {{ response_2 }}", {}, "compares two responses; method direct scores one"),
        ("{{ response }}", "{{ response }} {{ principle }}", {}, "shows a principle; method direct has none"),
    ],
)
def test_templates_that_give_no_scores(
    old: str, new: str, options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a mistake that is found when the model is loaded, or when the first row comes back as nan."""
    head, _, rest = TEXT.partition("exemplars:")
    text = TEXT if options.get("exemplars") else head + rest[rest.index("answer:") :]
    if "response_1" in new:
        text = text.replace(LABELS, 'labels: ["1", "2"]')
    monkeypatch.chdir(tmp_path)
    Path("t.txt").write_text(text.replace(old, new))
    with pytest.raises(InputError) as caught:
        direct(template="t.txt", **options)
    assert message in str(caught.value)
    assert "t.txt" in str(caught.value)


# figures


def test_quality_by_hand() -> None:
    """Catches a deviation of rewards, pairs counted as responses, and a tie against gold counted as wrong."""
    nothing = queried([], columns=direct().columns)
    assert nothing.figures()["mean_score"] is None
    assert nothing.lines() == []
    rows: list[tuple[Sample, Label]] = []

    def certain(value: int, mass: float) -> RequestScores:
        return RequestScores.single(tuple(0.0 if n == value else -1000.0 for n in range(1, 11)), mass, 10)

    def add(gold: Verdict | None, *values: int) -> None:
        answered = [certain(value, 0.3 if value == 2 else 0.9) for value in values]
        sample = Pair("1", PROMPT, "x", "y", gold) if len(values) == 2 else SINGLE
        rows.append((sample, direct().aggregate(sample, answered)))

    add(None, 8)
    for gold, a, b in (("a", 6, 2), ("b", 6, 4), ("a", 4, 4), ("tie", 6, 4), (None, 2, 2)):
        add(gold, a, b)  # type: ignore[arg-type]
    quality = queried(rows, columns=direct().columns)
    figures = quality.figures()
    every = [8, 6, 2, 6, 4, 4, 4, 6, 4, 2, 2]
    assert figures["responses"] == 11
    assert figures["mean_score"] == pytest.approx(np.mean(every))
    assert figures["std_score"] == pytest.approx(np.std(every))
    assert (figures["mean_entropy"], figures["low_mass"]) == (0.0, 3)
    assert figures["mean_label_mass"] == pytest.approx((8 * 0.9 + 3 * 0.3) / 11)
    assert (figures["pairs"], figures["ties"], figures["gold_pairs"], figures["gold_ties"]) == (5, 2, 3, 1)
    assert figures["agreement"] == pytest.approx(0.5)
    shown = dict(quality.lines())
    assert shown["agreement with gold"].startswith("50.0% of 3 pairs (95% interval ")
    assert shown["agreement with gold"].endswith("; 1 tie counted half")
    assert shown["score"] == "mean 4.364, standard deviation 1.872, of 11 responses"
    assert shown["entropy"] == "mean 0.000 nats; 2.303 where all 10 are equally probable"
    assert shown["label mass"] == "mean 0.736; 3 responses under 0.5"
    assert shown["ties"] == "2 pairs"


# with a model


def expected(engine: Engine, prompt: Sequence[int], labels: Sequence[Sequence[int]]) -> np.ndarray:
    """Shares of the labels: "1" without "10", which begins with it. Every token is asked for on its own."""
    steps = {(*label[:place], token): None for label in labels for place, token in enumerate(label)}
    asked = engine.score([[*prompt, *step[:-1]] for step in steps], [[[step[-1]]] for step in steps])
    logprob = dict(zip(steps, asked.logprob[:, 0].astype(np.float64), strict=True))
    probability = np.array(
        [math.exp(sum(logprob[tuple(label[: n + 1])] for n in range(len(label)))) for label in labels]
    )
    if list(labels[0]) == list(labels[9][:1]):
        probability[0] = math.exp(logprob[tuple(labels[0])]) * -math.expm1(logprob[tuple(labels[9])])
    return probability / probability.sum()


def check_row(engine: Engine, scorer: Judge, template: Template, row: dict[str, Any], end: str = "") -> None:
    name = "response" + end
    [request] = Direct(template).requests(Response("x", (Message("user", row["prompt"]),), row[name]))
    encoded = scorer.encode(request)
    share = expected(engine, encoded.ids, encoded.labels)
    np.testing.assert_allclose(row[f"distribution{end}"], share, atol=2e-6)
    mean = float(share @ np.arange(1, 11))
    assert row[f"score{end}"] == pytest.approx(mean, abs=1e-5)
    assert row[f"reward{end}"] == pytest.approx((mean - 5.5) / 4.5, abs=1e-5)
    assert row[f"mode{end}"] == 1 + int(share.argmax())
    assert row[f"entropy{end}"] == pytest.approx(-(share * np.log(share)).sum(), abs=1e-5)


def test_a_whole_run_on_the_embedded_model(
    embedded_engine: Engine, embedded_scorer: Callable[..., Judge], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches P("1") that holds P("10"), responses mixed up on the way, and columns that Arrow takes for others."""
    parquet = pytest.importorskip("pyarrow.parquet")
    rows: list[dict[str, Any]] = [
        {"id": "s", "prompt": "Name a planet.", "response": "Saturn.", "score": "mine"},
        {"id": "p", "prompt": "Name a planet.", "response_a": "Mars.", "response_b": "The Sun.", "gold": "a"},
        {"id": "t", "prompt": "Name a fish.", "response_a": "A trout.", "response_b": "A trout."},
        {"id": "r", "prompt": "Name two.", "responses": ["one", "two"]},
    ]
    scorer = embedded_scorer()
    monkeypatch.setattr(run, "load_judge", lambda options, weights=True: scorer)
    source = write_rows(tmp_path / "in.jsonl", rows)
    assert cli.main(["label", str(source), "--out", str(tmp_path / "out"), "--method", "direct", "--quiet"]) == 3
    table = parquet.read_table(tmp_path / "out" / "labels.parquet")
    single, pair, tie, ranked = table.to_pylist()
    template = load_template("direct")
    check_row(embedded_engine, scorer, template, rows[0] | {"response": "Saturn.", **without(single, "input_score")})
    for end in ("_a", "_b"):
        check_row(embedded_engine, scorer, template, rows[1] | pair, end)
    assert single["verdict"] is None
    assert single["input_score"] == "mine"
    assert pair["verdict"] == ("a" if pair["score_a"] > pair["score_b"] else "b")
    assert (tie["verdict"], tie["score_a"]) == ("tie", tie["score_b"])
    assert ranked["status"] == "rejected"
    assert "method direct needs response or response_a and response_b" in ranked["reason"]
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["method"]["values"] == list(range(1, 11))
    assert record["quality"]["responses"] == 5
    labels = scorer.encode(Direct(template).requests(SINGLE)[0]).labels
    assert [len(label) for label in labels] == [1] * 9 + [2]


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names and value is not None}


@pytest.fixture(params=["two tokens", "one token"])
def ten(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model whose tokenizer writes 10 so."""
    merged = request.param == "one token"
    model = write_model(tmp_path / "model", SMALL_CONFIG | {"vocab_size": CONFIG["vocab_size"] + merged})
    if merged:
        data = tokenizer_data()
        data["model"]["vocab"]["10"] = CONFIG["vocab_size"]
        data["model"]["merges"].append(["1", "0"])
        (model / "tokenizer.json").write_text(json.dumps(data))
    return model


def test_10_of_one_token_and_of_two(ten: Path, request: pytest.FixtureRequest) -> None:
    """Catches a rule that takes P("10") from P("1") where the tokenizer has a token for 10."""
    scorer = Judge.load(str(ten))
    engine = Engine.load(str(ten))
    encoded = [scorer.encode(one) for one in direct().requests(PAIR)]
    tokens = 1 if "one token" in request.node.name else 2
    for item, got in zip(encoded, scorer.score(encoded), strict=True):
        assert len(item.labels[9]) == tokens
        share = expected(engine, item.ids, item.labels)
        assert ONE_TO_TEN.score(got).distribution == pytest.approx(share, abs=1e-6)
        assert np.exp(got.answers[0].logprob).sum() == pytest.approx(got.label_mass, rel=1e-5)


def test_scale_of_a_hundred_labels_on_digits(ten: Path) -> None:
    """Catches "100" of three tokens taken from "1" instead of "10", and labels lost between engine and scale."""
    scorer = Judge.load(str(ten))
    method = direct(scale="1-100")
    encoded = [scorer.encode(one) for one in method.requests(SINGLE)]
    [got] = scorer.score(encoded)
    assert len(got.answers[0].logprob) == 100
    assert np.exp(got.answers[0].logprob).sum() == pytest.approx(got.label_mass, rel=1e-5)
    assert scale_of(method.template).score(got).score > 1


def test_labels_are_bit_exact(ten: Path) -> None:
    """Catches a response's score that depends on what else is in the run, or on whether its row is a pair."""
    pairs = [Pair(str(n), PROMPT, f"answer {n}" * n, f"other {n}") for n in range(1, 6)]
    method = direct(scale="1-12")

    def label(batch_tokens: int, order: int) -> dict[str, Any]:
        scorer = Judge.load(str(ten), batch_tokens=batch_tokens)
        return {row.item.id: row.label for row in label_samples(pairs[::order], method, scorer) if row.item.id}

    whole = label(100_000, 1)
    assert label(300, -1) == whole
    scorer = Judge.load(str(ten))
    alone = Response("x", PROMPT, pairs[2].response_b)
    [row] = label_samples([alone], method, scorer)
    assert row.label is not None
    assert row.label.values()["distribution"] == whole["3"].scores[1].distribution
