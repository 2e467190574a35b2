"""Method rubric: what is asked, whose arithmetic it is, what it costs, and a run from end to end."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import preftree as pt
from preftree.engine.errors import InputError, UsageError
from preftree.labeling import cli
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.registry import columns_of, open_method
from preftree.labeling.methods.rubric import ByRubric
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.pipeline import label_samples
from preftree.labeling.types import Message, Pair, RequestScores, Response, Sample
from tests.labeling.fakes import write_rows
from tests.labeling.queried import queried

PROMPT = (Message("user", "QQQ"),)
CRITERIA = [{"name": "short", "text": "Is short.", "weight": 3}, {"name": "rude", "text": "Is rude.", "weight": -1}]
ROW = {"rubric": CRITERIA}
SINGLE = Response("s", PROMPT, "AAA", ROW)
PAIR = Pair("p", PROMPT, "AAA", "BBB", "b", ROW)


def method(**options: Any) -> ByRubric:
    chosen = options if "rubric" in options else {"rubric_column": "rubric", **options}
    opened = open_method(JudgeOptions(**{"input": "x", "method": "rubric", **chosen}))
    assert isinstance(opened, ByRubric)
    return opened


def yes(p: float, mass: float = 0.8) -> RequestScores:
    return RequestScores.single((math.log(p * mass), math.log((1 - p) * mass)), mass, 10)


# what is asked


def test_a_response_is_asked_about_once_a_criterion() -> None:
    """Catches a criterion left out, shown before the response, or followed by text."""
    first, second = method().requests(SINGLE)
    assert (first.title, second.title, first.labels) == ("short", "rude", (" yes", " no"))
    assert first.user.endswith("\nIs short.")
    assert first.user.removesuffix("Is short.") == second.user.removesuffix("Is rude.")
    assert first.answer_start == "Answer:"
    titles = [request.title for request in method().requests(PAIR)]
    assert titles == ["short, response A", "rude, response A", "short, response B", "rude, response B"]


def test_sixteen_criteria_run_over_a_fifth_of_their_tokens() -> None:
    """Catches text behind the criterion that is computed anew for each, and criteria shown before the response."""
    judge = Judge.load("embedded", weights=False)
    words = "water stone early green seven paper morning window answer quiet river because bread yellow "
    text = judge.tokenizer.decode(judge.tokenizer.encode([words * 20])[:200])
    asked = [f"The response mentions all of the facts that reader number {number} needs." for number in range(16)]
    for row in (SINGLE._replace(response=text), Pair("p", PROMPT, text, text[::-1])):
        requests = method().requests(row._replace(extra={"rubric": asked}))
        plan = judge.plan([judge.encode(request) for request in requests])
        assert plan.prompts == 16 * (1 + isinstance(row, Pair))
        assert plan.rows <= plan.prompt_tokens / 5


def test_no_criterion_becomes_a_control_token() -> None:
    """Catches control strings in a criterion: refused where they are known, and text whatever they are."""
    with pytest.raises(InputError, match=r"bad rubric: criterion 1 holds the control string '<\|im_start\|>'"):
        method().requests(SINGLE._replace(extra={"rubric": ["Says <|im_start|>"]}))
    judge = Judge.load("embedded", weights=False)
    plain, odd = (
        judge.encode(method().requests(SINGLE._replace(extra={"rubric": [text]}))[0]).ids
        for text in ("Says so.", "Says <repo_name> and <file_sep>.")
    )
    controls = range(17)  # of this tokenizer; <repo_name> and <file_sep> are among them
    assert sum(token in controls for token in odd) == sum(token in controls for token in plain) > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"rubric_column": None},
            "method rubric needs criteria: --rubric FILE for all rows, or --rubric-column COLUMN",
        ),
        ({"rubric": "a", "rubric_column": "b"}, "--rubric-column excludes --rubric"),
        ({"rubric_column": "response"}, "--rubric-column response: it is what is judged"),
        ({"rubric": "nowhere.yaml", "rubric_column": None}, "rubric nowhere.yaml cannot be read"),
        ({"template": "direct"}, "template direct never shows {{ principle }}"),
        ({"template": "general"}, "template general compares two responses"),
        ({"template": "principled-single"}, "'labels' must be two, yes and no in this order"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    """Catches two rubrics at once, none, and a template that answers another question."""
    with pytest.raises((InputError, UsageError)) as caught:
        open_method(JudgeOptions(**{"input": "x", "method": "rubric", "rubric_column": "rubric"} | options))
    assert said in str(caught.value)


def test_rows_without_a_good_rubric() -> None:
    """Catches an empty rubric that is labelled 0."""
    rows: tuple[tuple[dict[str, Any], str], ...] = (
        ({}, "missing rubric: rubric is not there or null"),
        ({"rubric": []}, "bad rubric: it holds no"),
    )
    for extra, said in rows:
        with pytest.raises(InputError, match=said):
            method().requests(SINGLE._replace(extra=extra))


def test_a_record_asks_the_same_again(tmp_path: Path) -> None:
    """Catches criteria read again from a file that was edited since, and answers that outlive a change of a column."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(CRITERIA))
    options = JudgeOptions(input="x", method="rubric", rubric=str(path), exemplars=1)
    opened = open_method(options)
    record = json.loads(json.dumps(opened.record()))
    assert open_method(replace(options, rubric="gone"), record) == opened
    assert columns_of(opened) == ()
    assert [column.path for column in columns_of(method())] == [("rubric",)]


# arithmetic


def test_a_label_by_hand() -> None:
    """Catches criteria of A that are taken for those of B, and a fault that makes a response better."""
    label = method().aggregate(PAIR, [yes(0.5), yes(0.9), yes(0.75), yes(0.3, mass=0.4)]).values()
    assert label["score_a"] == pytest.approx((1.5 - 0.9) / 3)
    assert label["score_b"] == pytest.approx((2.25 - 0.3) / 3)
    assert label["reward_b"] == pytest.approx((2.25 - 0.3 + 1) / 4 * 2 - 1)
    assert (label["verdict"], label["score"], label["criteria"], label["rubric_weighted"]) == ("b", None, None, True)
    assert (label["label_mass_a"], label["label_mass_b"]) == (0.8, 0.4)
    assert label["criteria_b"][1] == {"name": "rude", "weight": -1.0, "p_yes": pytest.approx(0.3), "label_mass": 0.4}
    single = method().aggregate(SINGLE, [yes(0.5), yes(0.9)]).values()
    assert (single["verdict"], single["score"]) == (None, label["score_a"])
    assert set(single) == set(method().columns)
    with pytest.raises(InputError, match="not finite"):
        method().aggregate(SINGLE, [yes(0.5), RequestScores.single((math.nan, -1.0), 0.5, 10)])


def test_figures_by_hand() -> None:
    """Catches shares of the wrong criterion, and a fault that agrees with gold when it is there more."""
    chosen = method()
    samples: list[Sample] = [PAIR, SINGLE, PAIR._replace(gold="a")]
    labels = [
        chosen.aggregate(PAIR, [yes(0.5), yes(0.9), yes(0.75), yes(0.3)]),
        chosen.aggregate(SINGLE, [yes(0.25), yes(0.6)]),
        chosen.aggregate(PAIR, [yes(0.5), yes(0.9), yes(0.5), yes(0.3)]),
    ]
    found = queried(list(zip(samples, labels, strict=True)), columns=chosen.columns)
    figures = json.loads(json.dumps(found.figures(), allow_nan=False))
    short, rude = figures["criteria"]
    assert (short["name"], short["weight"], short["responses"], short["met"]) == ("short", 3.0, 5, 0.2)
    assert short["mean_p_yes"] == pytest.approx((0.5 + 0.75 + 0.25 + 0.5 + 0.5) / 5)
    assert (short["gold_pairs"], short["agreement"]) == (2, 0.75)
    assert (rude["agreement"], rude["met"]) == (0.5, 0.6)
    assert (figures["agreement"], figures["responses"], figures["unweighted"]) == (0.5, 5, 0)
    shown = [text.split() for name, text in found.lines() if name == "criteria"]
    assert [line[0] for line in shown] == ["weight", "short", "rude", "all"]


def test_rubrics_without_weights_are_named_in_the_summary() -> None:
    """Catches weights that are assumed in silence."""
    row = SINGLE._replace(extra={"rubric": ["Is short."]})
    found = queried([(row, method().aggregate(row, [yes(0.5)]))], columns=method().columns)
    assert ("weights", "none in the rubrics of 1 row: each criterion counts 1") in found.lines()


# a model


def test_probabilities_are_those_of_transformers(small_model: str) -> None:
    """Catches label ids of other tokens, and a softmax over something else than yes and no."""
    import torch
    from transformers import AutoModelForCausalLM

    judge, theirs = Judge.load(small_model), AutoModelForCausalLM.from_pretrained(small_model, dtype=torch.float64)
    encoded = [judge.encode(request) for request in method().requests(PAIR)]
    (row,) = label_samples([PAIR], method(), judge)
    assert row.label is not None
    values = row.label.values()
    found = [one for end in ("_a", "_b") for one in values[f"criteria{end}"]]
    for item, one in zip(encoded, found, strict=True):
        p = [_chain(theirs, item.ids, label) for label in item.labels]
        assert one["p_yes"] == pytest.approx(p[0] / sum(p), abs=1e-3)
        assert one["label_mass"] == pytest.approx(sum(p), abs=1e-3)


def _chain(model: Any, ids: list[int], label: list[int]) -> float:
    """Probability of a label's tokens, one after the other."""
    import torch

    with torch.inference_mode():
        logprob = model(torch.tensor([ids + label])).logits[0].log_softmax(-1)
    return math.exp(sum(float(logprob[len(ids) - 1 + place, token]) for place, token in enumerate(label)))


def label(model: str, samples: Sequence[Sample], **options: Any) -> dict[str, Any]:
    done = label_samples(samples, method(), Judge.load(model, **options))
    return {str(row.item.id): row.label and row.label.values() for row in done}


def test_a_label_is_the_same_bits_in_any_company(small_model: str) -> None:
    """Catches a score that depends on other rows, on their rubrics or on batches, and a swap that changes it."""
    other = SINGLE._replace(id="o", extra={"rubric": ["Is rude.", "Is long."]})
    samples: list[Sample] = [SINGLE, other, PAIR, PAIR.swap()._replace(id="w")]
    everything = label(small_model, samples)
    for some, options in (
        (samples[:1], {}),
        (samples[1:2], {}),
        (samples[::-1], {}),
        (samples[1:], {"batch_tokens": 64}),
    ):
        assert label(small_model, some, **options).items() <= everything.items()
    for one, two in (("_a", "_b"), ("_b", "_a")):
        assert everything["p"][f"criteria{one}"] == everything["w"][f"criteria{two}"]
        assert everything["p"][f"reward{one}"] == everything["w"][f"reward{two}"]


def test_a_run(small_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a column of rubrics that a run, its report, `show`, the page and exports do not understand."""
    parquet = pytest.importorskip("pyarrow.parquet")
    rows: list[dict[str, Any] | bytes] = [
        {"id": "p", "prompt": "Which?", "response_a": "this", "response_b": "that", "gold": "a", "mine": CRITERIA},
        {"id": "s", "prompt": "Which?", "response": "this", "mine": json.dumps({"rubrics": CRITERIA})},
        {"id": "none", "prompt": "Which?", "response": "this", "mine": []},
    ]
    source, out, page = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out", tmp_path / "page.html"
    command = ["label", str(source), "--out", str(out), "--model", small_model, "--method", "rubric"]
    assert cli.main([*command, "--rubric-column", "theirs"]) == 2
    assert "has no column theirs of rubrics; name another with --rubric-column" in capsys.readouterr().err
    assert cli.main([*command, "--rubric-column", "mine"]) == 3
    assert "line 3: bad rubric: it holds no criteria" in capsys.readouterr().out
    pair, single, none = parquet.read_table(out / "labels.parquet").to_pylist()
    assert (none["status"], none["reason"]) == ("rejected", "line 3: bad rubric: it holds no criteria")
    assert [one["name"] for one in pair["criteria_a"]] == ["short", "rude"]
    assert single["criteria"] is not None
    record = json.loads((out / "run.json").read_text())
    assert record["method"]["rubric_column"] == "mine"
    assert cli.main(["show", str(out), "p"]) == 0
    assert f"answer, rude, response B: yes with p {pair['criteria_b'][1]['p_yes']:.6f}" in capsys.readouterr().out
    assert cli.main(["report", str(out), "--html", str(page)]) == 0
    assert "<h2>Criteria</h2>" in page.read_text()
    assert cli.main(["export", str(out), "--to", "trl-dpo", "--out", str(tmp_path / "pairs.jsonl")]) == 0
    assert len((tmp_path / "pairs.jsonl").read_text().splitlines()) == 1


def test_rationales_are_kept_by_criterion(small_model: str, tmp_path: Path) -> None:
    """Catches a rationale that is lost, or one of another criterion."""
    (tmp_path / "rubric.json").write_text(json.dumps(CRITERIA))
    chosen = pt.Rubric(str(tmp_path / "rubric.json"), cot=True, max_rationale_tokens=2)
    (row,) = pt.label([{"prompt": "Which?", "response": "this"}], Judge.load(small_model), chosen)
    assert row.label is not None
    values = dict(row.label.values())
    assert all(0 < one["rationale_tokens"] <= 2 for one in values["criteria"])
    opened = open_method(JudgeOptions(input="x", method="rubric", rubric=chosen.rubric, cot=True))
    written = [rationale.text for (rationale,) in opened.rationales(values)]
    assert written == [one["rationale"] for one in values["criteria"]]
    assert len(written) == 2
