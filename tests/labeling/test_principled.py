"""Scores under sets of principles: what is asked, whose arithmetic it is, and the promise of the same bits."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError
from preftree.labeling import cli
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.direct import Direct
from preftree.labeling.methods.principled import Principled
from preftree.labeling.methods.registry import open_method
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.pipeline import label_samples
from preftree.labeling.principles.sets import GUARDS, load_principles, principle_sets
from preftree.labeling.prompts.catalogue import load_template
from preftree.labeling.types import Message, Pair, RequestScores, Response, ResponseSet, Sample, ScoreRequest
from tests.labeling.fakes import row, write_rows
from tests.labeling.queried import queried
from tests.models import SMALL_CONFIG, write_model

PROMPT = (Message("user", "QQQ"),)
PAIR = Pair("p", PROMPT, "AAA", "BBB", "a")
SINGLE = Response("s", PROMPT, "AAA")
SETS = (("concise", "not helpful"), ("The response should rhyme.",), ("ethical", *GUARDS))


def method(*sets: Sequence[str], **options: Any) -> Principled:
    chosen = tuple(map(tuple, sets or SETS))
    opened = open_method(JudgeOptions(input="x", method="principled", under=chosen, **options))
    assert isinstance(opened, Principled)
    return opened


# what is asked


def test_a_response_is_asked_about_once_a_set() -> None:
    """Catches a set left out, a positive statement in place of the negative one, and text behind the principles."""
    requests = method().requests(SINGLE)
    assert [request.title for request in requests] == [
        "concise + not helpful",
        "The response should rhyme.",
        "ethical + no-self-praise + answer-not-advice + no-needless-examples",
    ]
    by_name = {principle.name: principle for principle in load_principles("default")}
    assert requests[0].user.endswith(f"\n- {by_name['concise'].positive}\n- {by_name['helpful'].negative}")
    assert requests[2].user.count("\n- ") == 4
    assert {request.user.partition("\n- ")[0] for request in requests} == {requests[0].user.partition("\n- ")[0]}
    assert requests[0].labels == tuple(map(str, range(1, 11)))


def test_a_pair_is_asked_about_twice_a_set() -> None:
    requests = method().requests(PAIR)
    assert [request.title for request in requests[::3]] == [
        "concise + not helpful, A first",
        "concise + not helpful, B first",
    ]
    for number, request in enumerate(requests):
        assert (request.user.index("AAA") < request.user.index("BBB")) == (number < 3)
    assert len({request.user.partition("\n- ")[0] for request in requests}) == 2, "the sets of an order share all else"


def test_the_templates_of_the_method() -> None:
    for name in ("principled-pair", "principled-single"):
        template = load_template(name)
        assert template.principle_is_last
        assert template.body.endswith("{{ principle }}")
        assert set(template.preambles) == {"base", "detailed"}
        for count in range(3):
            sample = PAIR if template.num_responses == 2 else SINGLE
            assert method(template=name, exemplars=count).requests(sample)[0].user.count("### Response") == (
                (1 + count) * template.num_responses
            )


def test_sets_share_the_response() -> None:
    """Catches principles shown first: every set would then read prompt and response again."""
    text = "water stone early green seven paper morning window answer quiet river because bread yellow " * 14
    scorer = Judge.load("embedded", weights=False)
    sets = [[f"The response should be of kind {number}."] for number in range(16)]
    encoded = [scorer.encode(request) for request in method(*sets).requests(Response("s", PROMPT, text))]
    plan = scorer.plan(encoded)
    assert plan.prompts == 16
    assert plan.prompt_tokens / plan.rows > 6


# arithmetic


def scores(*logprob: float) -> RequestScores:
    return RequestScores.single(logprob, 0.5, 10)


def test_pairs_are_labelled_as_rlaif_labels_them() -> None:
    """Catches orders of one set paired with those of another."""
    asked = [scores(-0.1 * n, -1.0) for n in range(1, 7)]
    label = method().aggregate(PAIR, asked)
    rlaif = Rlaif(load_template("principled-pair"))
    assert label.labels == tuple(rlaif.aggregate(PAIR, (asked[n], asked[n + 3])) for n in range(3))
    assert label.prompt_tokens == 60
    first = label.values()["sets"][0]
    assert (first["set"], first["p_a"]) == ("concise + not helpful", label.labels[0].values()["p_a"])
    assert {name for name, value in first.items() if value is None} == {
        "score", "reward", "mode", "entropy", "label_mass", "distribution",
    }  # fmt: skip


def test_singles_are_scored_as_direct_scores_them() -> None:
    asked = [scores(*(-0.1 * n * label for label in range(1, 11))) for n in range(1, 4)]
    label = method().aggregate(SINGLE, asked)
    direct = Direct(load_template("principled-single"))
    assert label.labels == tuple(direct.aggregate(SINGLE, (one,)) for one in asked)
    last = label.values()["sets"][2]
    assert (last["score"], last["p_a"], last["verdict"]) == (direct.scale.score(asked[2]).score, None, None)
    assert 0.5 < last["label_mass"] + 0.1 < 1


@pytest.mark.parametrize("sample", [PAIR, SINGLE])
def test_what_is_not_finite_is_no_label(sample: Sample) -> None:
    size = 2 if sample is PAIR else 10
    good, bad = scores(*[-1.0] * size), scores(math.nan, *[-1.0] * (size - 1))
    chosen = method(("concise",))
    with pytest.raises(InputError, match="not finite"):
        chosen.aggregate(sample, [good, bad][-len(chosen.requests(sample)) :])


# options and records


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"template": "general"}, "template general never shows {{ principle }}"),
        ({"template": "direct"}, "template direct never shows {{ principle }}"),
        (
            {"template": "principled-pair", "scale": "1-5"},
            "--scale is of single responses, and template principled-pair",
        ),
        ({"scale": "5-1"}, "runs downwards"),
        ({"under": ()}, "name principles to score under"),
        ({"under": (("concsie",),)}, "no principle 'concsie'"),
        ({"preamble": "long"}, "there is no preamble 'long'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        open_method(JudgeOptions(**{"input": "x", "method": "principled", "under": SETS, **options}))
    assert said in str(caught.value)


def test_a_template_of_ones_own_takes_its_own_rows() -> None:
    assert method().takes == (Response, Pair)
    assert method(template="principled-pair").takes == (Pair,)
    assert method(template="principled-single").takes == (Response,)
    assert ResponseSet not in method().takes


def test_a_record_asks_the_same_again(tmp_path: Path) -> None:
    """Catches prompts shown under principles that were edited since."""
    path = tmp_path / "mine.yaml"
    path.write_text("- {name: kind, positive: The response should be kind., negative: The response should be rude.}")
    for template in (None, "principled-pair", "principled-single"):
        options = JudgeOptions(
            input="x", method="principled", principles=str(path), template=template, exemplars=1, preamble="base"
        )
        opened = open_method(options)
        record = json.loads(json.dumps(opened.record()))
        moved = replace(options, principles=str(tmp_path / "gone"))
        assert open_method(moved, record) == opened
    scaled = JudgeOptions(input="x", method="principled", under=SETS, scale="1-5")
    opened = open_method(scaled)
    assert opened.requests(SINGLE)[0].labels == ("1", "2", "3", "4", "5")
    asked = opened.requests(SINGLE)[0]
    assert isinstance(asked, ScoreRequest)
    assert "from 1 (" in asked.user
    assert "to 5 (" in asked.user
    assert open_method(scaled, json.loads(json.dumps(opened.record()))) == opened


# a model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG)


def some_samples() -> list[Sample]:
    texts = ["rain is wet", "bread is made of flour and water", "no", "the honest answer is that nobody knows it"]
    pairs = [Pair(f"p{n}", PROMPT, texts[n], texts[(n + 1) % 4], "ab"[n % 2]) for n in range(4)]  # type: ignore[arg-type]
    singles = [Response(f"s{n}", PROMPT, text) for n, text in enumerate(texts)]
    return [*pairs, *singles, Pair("same", PROMPT, texts[0], texts[0])]


def label(model: Path, samples: Sequence[Sample], chosen: Principled, **options: Any) -> dict[tuple[str, str], Any]:
    """By row and set."""
    found = {}
    for done in label_samples(samples, chosen, Judge.load(str(model), **options)):
        assert done.label is not None
        assert done.item.id is not None
        for of_set in done.label.values()["sets"]:
            found[done.item.id, of_set["set"]] = of_set
    return found


def test_a_label_is_the_same_bits_in_any_company(model: Path) -> None:
    """Catches a score that depends on the sets beside it, on their order, on other rows or on batches."""
    samples, whole = some_samples(), method()
    everything = label(model, samples, whole)
    assert len(everything) == 9 * 3
    for some, chosen, options in (
        (samples[1:2], method(SETS[1]), {}),
        (samples[5:6], method(SETS[2]), {}),
        (samples[::-1], method(*SETS[::-1]), {}),
        (samples[2:7], whole, {"batch_tokens": 100}),
    ):
        assert label(model, some, chosen, **options).items() <= everything.items()


def test_swapped_pairs_get_flipped_labels(model: Path) -> None:
    pairs = [sample for sample in some_samples() if isinstance(sample, Pair)]
    straight, swapped = (label(model, some, method()) for some in (pairs, [pair.swap() for pair in pairs]))
    for key, one in straight.items():
        assert swapped[key]["p_a"] == 1 - one["p_a"]
        assert swapped[key]["p_a_first"] == 1 - one["p_a_second"]
        assert one["p_a"] == 0.5 or key[0] != "same"


def test_a_run(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches columns that do not fit the labels, one kind of row that hides the other, and answers mixed up."""
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [
        row(id="p", gold="b"),
        {"id": "s", "prompt": "Which?", "response": "this"},
        {"id": "many", "prompt": "Which?", "responses": ["this", "that"]},
    ]
    source, out = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out"
    command = ["score", str(source), "--out", str(out), "--model", str(model), "--under", "concise", "not helpful"]
    assert cli.main([*command, "--under", "The response should rhyme.", "--guard", "--scale", "1-5"]) == 3
    summary = " ".join(capsys.readouterr().out.split())
    assert "The response should rhyme. + no-self-praise" in summary
    assert "1 pair: " in summary
    assert "of 1 agree with gold (95% interval" in summary
    assert "1 response: mean score " in summary
    pair, single, many = parquet.read_table(out / "labels.parquet").to_pylist()
    assert (many["status"], many["sets"]) == ("rejected", None)
    guards = " + ".join(GUARDS)
    for one in (pair, single):
        assert [made["set"] for made in one["sets"]] == [
            f"concise + not helpful + {guards}",
            f"The response should rhyme. + {guards}",
        ]
    assert [len(made["distribution"]) for made in single["sets"]] == [5, 5]
    assert all(0 < made["p_a"] < 1 and made["score"] is None for made in pair["sets"])
    quality = json.loads((out / "run.json").read_text())["quality"]
    assert [made["pairs"]["pairs"] for made in quality["sets"]] == [1, 1]
    assert cli.main(["show", str(out), "p"]) == 0
    shown = capsys.readouterr().out
    for made in pair["sets"]:
        assert f"answer, {made['set']}, A first: A is better with p {made['p_a_first']:.6f}" in shown
        assert f"answer, {made['set']}, B first: A is better with p {made['p_a_second']:.6f}" in shown
    assert cli.main(["show", str(out), "s"]) == 0
    shown = capsys.readouterr().out
    for made in single["sets"]:
        assert f"answer, {made['set']}: score {made['score']:.6f}, reward {made['reward']:+.6f}" in shown


@pytest.mark.parametrize(
    ("sample", "said"), [(PAIR, "1 pair: 50.0% of 1 agree"), (SINGLE, "1 response: mean score 5.5")]
)
def test_the_summary(sample: Sample, said: str) -> None:
    """Catches figures of a kind of rows that was not there, and a summary that grows with the sets."""
    chosen = method(*[(f"The response should be of kind {number}.",) for number in range(30)])
    nothing = queried([], columns=chosen.columns)
    json.dumps(nothing.figures(), allow_nan=False)
    assert nothing.lines() == []
    requests = chosen.requests(sample)
    label = chosen.aggregate(sample, [scores(*[-1.0] * len(one.labels)) for one in requests])
    quality = queried([(sample, label)], columns=chosen.columns)
    assert len(quality.lines()) == 41
    assert quality.lines()[-1] == ("principles", "and 10 sets more in run.json")
    assert quality.lines()[1][1].strip().startswith(said)
    assert len(json.loads(json.dumps(quality.figures(), allow_nan=False))["sets"]) == 30


def test_sets_are_made_once() -> None:
    """Catches a set whose name in the labels is not the one in the prompts' titles."""
    chosen = method()
    assert tuple(made.name for made in principle_sets(SETS, None)) == chosen.aggregate(PAIR, [scores(-1, -2)] * 6).names
