"""Preference instructions: rows by hand, bytes that stay the same, errors in one line."""

from __future__ import annotations

import json
import statistics
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preftree.engine.errors import OutputError, PreftreeError
from preftree.labeling import cli
from preftree.labeling.data.atomic import Draft
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.export.drawing import decide
from preftree.labeling.export.instructions import write_instructions
from preftree.labeling.export.salmon_labels import SalmonLabels
from preftree.labeling.options.export import InstructionOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.principles.principle import Principle
from preftree.labeling.prompts.reward_input import reward_messages
from preftree.labeling.runs.run import run_label
from preftree.labeling.types import Message, Pair
from tests.labeling.fakes import fake_scorer_factory, row, write_rows
from tests.labeling.salmon_run import PRINCIPLES, salmon_run

pytest.importorskip("pyarrow")

SCORES = [tuple(map(float, scores)) for scores in np.random.default_rng(3).normal(size=(40, 3)).round(4)]


def instructions(labels: Path, name: str = "out.jsonl", **changes: Any) -> list[dict[str, Any]]:
    """The rows written, with everything random switched off unless `changes` says otherwise."""
    settings: dict[str, Any] = {"num_principles": "3", "passes": 1, "negate": 0.0, "noise": 0.0}
    settings["variance_scaling"] = False
    out = labels.parent / name
    write_instructions(InstructionOptions(labels=str(labels), out=str(out), **settings | changes))
    return [json.loads(line) for line in out.read_bytes().splitlines()]


def test_rows_by_hand(tmp_path: Path) -> None:
    """Catches statements, signs or scores of another principle, and orders that disagree counted as a score."""
    labels = salmon_run(tmp_path / "run", [(1.0, (-3.0, -1.0), 1.0), (0.5, (9.0, -1.0), -0.25), None])
    first, second = instructions(labels, negate=1.0)
    assert first["id"] == "row 0"
    assert (first["pass"], first["seed"], first["prompt"]) == (1, 0, "Which?")
    assert (first["response_a"], first["response_b"]) == ("this 0", "that")
    assert set(first["names"]) == {"concise", "ethical", "precise"}
    assert first["principles"] == [f"Do not be {name}." for name in first["names"]]
    assert first["signs"] == [-1, -1, -1]
    by_name = dict(zip(first["names"], first["scores"], strict=True))
    assert by_name == {"concise": 1.0, "ethical": -2.0, "precise": 1.0}
    assert (first["decided_by"], first["chosen"], first["flipped"]) == ("ethical", "a", False)
    by_name = dict(zip(second["names"], second["scores"], strict=True))
    assert by_name == {"concise": 0.5, "ethical": 0.0, "precise": -0.25}
    assert (second["decided_by"], second["chosen"]) == ("concise", "b")
    first, second = instructions(labels, "positive.jsonl")
    assert (first["chosen"], second["chosen"]) == ("b", "a")
    assert second["principles"] == [f"Be {name}." for name in second["names"]]
    assert second["signs"] == [1, 1, 1]
    first, second = instructions(labels, "noise.jsonl", noise=1.0)
    assert (first["chosen"], first["flipped"], second["chosen"], second["flipped"]) == ("a", True, "b", True)


def test_variance_scaling(tmp_path: Path) -> None:
    """Catches the standard deviation, the sample's variance, and variances of means of both orders."""
    columns = {"concise": ((1.0, 3.0), (-2.0, -4.0)), "ethical": ((0.5, 0.5), (0.1, 0.3)), "precise": ((2.0, 2.0),) * 2}
    labels = salmon_run(tmp_path / "run", list(zip(*columns.values(), strict=True)))
    expected = {name: statistics.pvariance([x for both in pairs for x in both]) for name, pairs in columns.items()}
    variances = SalmonLabels(labels).variances()
    assert variances == pytest.approx(expected)
    assert variances["precise"] == 0
    first, second = instructions(labels, variance_scaling=True)
    scores = dict(zip(first["names"], first["scores"], strict=True))
    assert scores["concise"] == pytest.approx(2 / expected["concise"])
    assert scores["ethical"] == pytest.approx(0.5 / expected["ethical"])
    assert scores["precise"] == 2.0  # no spread to divide by
    assert first["decided_by"] == second["decided_by"] == "ethical"
    assert instructions(labels, "raw.jsonl")[0]["decided_by"] != "ethical"


def test_order_and_other_rows_do_not_matter(tmp_path: Path) -> None:
    """Catches draws that go on from row to row. Only scaling looks at other rows: without it half a file is enough."""
    rows = [row(id=f"row {k}") for k in range(40)]
    whole = salmon_run(tmp_path / "whole", SCORES, rows=rows)
    back = salmon_run(tmp_path / "back", SCORES[::-1], rows=rows[::-1])
    half = salmon_run(tmp_path / "half", SCORES[:20], rows=rows[:20])
    random: dict[str, Any] = {"num_principles": "geometric", "passes": 3, "negate": 0.5, "noise": 0.3, "seed": 5}

    def by_turn(rows: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
        return {(one["id"], one["pass"]): one for one in rows}

    there = by_turn(instructions(whole, **random, variance_scaling=True))
    assert len(there) == 120
    for one in there.values():
        decision = decide(one["scores"], [sign < 0 for sign in one["signs"]])
        assert decision is not None
        assert one["names"][decision[0]] == one["decided_by"]
        assert (one["chosen"] != decision[1]) == one["flipped"]
    assert by_turn(instructions(back, **random, variance_scaling=True)) == there
    unscaled = by_turn(instructions(whole, "unscaled.jsonl", **random))
    assert by_turn(instructions(half, **random)).items() <= unscaled.items()


def test_the_same_bytes(tmp_path: Path) -> None:
    """Catches a time, a set's order or a process's hash seed in the files."""
    labels = salmon_run(tmp_path / "run", SCORES)
    options = InstructionOptions(labels=str(labels), out=str(tmp_path / "x.jsonl"), overwrite=True)
    write_instructions(options)
    paths = [tmp_path / "x.jsonl", tmp_path / "x.jsonl.run.json"]
    before = [path.read_bytes() for path in paths]
    lines = list(write_instructions(options))
    assert [path.read_bytes() for path in paths] == before
    assert before[0].endswith(b"}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "x.jsonl", "x.jsonl.run.json"]
    assert lines[0].startswith("instructions  160 preferences of 40 pairs in 4 passes, ")
    assert lines[-1].endswith("x.jsonl.run.json")
    record = json.loads(before[1])
    assert record["totals"]["preferences"] == sum(record["totals"]["decided_by"].values()) == 160
    assert record["options"]["seed"] == 0
    assert [one["name"] for one in record["principles"]] == ["concise", "ethical", "precise"]
    assert record["principles"][0]["variance"] == SalmonLabels(labels).variances()["concise"]


def test_rows_never_have_the_record_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an old record that stays beside new rows when the disk fails between the two files."""
    labels = salmon_run(tmp_path / "run", SCORES)
    options = InstructionOptions(labels=str(labels), out=str(tmp_path / "x.jsonl"), overwrite=True)
    write_instructions(options)

    def fail(draft: Draft) -> None:
        if draft.final.suffix == ".json":
            raise OSError(5, "Input/output error")
        draft.path.replace(draft.final)

    monkeypatch.setattr(Draft, "publish", fail)
    with pytest.raises(OutputError, match="Input/output error"):
        write_instructions(replace(options, seed=1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "x.jsonl"]


def test_what_is_dropped_is_said(tmp_path: Path) -> None:
    """Catches rows that vanish, and a tie written as a preference."""
    labels = salmon_run(tmp_path / "run", [(0.0, (1.0, -1.0), 0.0), (1.0, 1.0, 1.0), None, None])
    out = str(tmp_path / "x.jsonl")
    lines = list(write_instructions(InstructionOptions(labels=str(labels), out=out, passes=2, variance_scaling=False)))
    assert lines[0].startswith("instructions  2 preferences of 2 pairs in 2 passes, ")
    dropped = ["2 preferences: every principle drawn has score 0", "2 rows: no labels"]
    assert [line.removeprefix("dropped").strip() for line in lines[1:3]] == dropped
    with pytest.raises(OutputError, match="exists already"):
        write_instructions(InstructionOptions(labels=str(labels), out=out))


def test_conversations_and_odd_texts_survive(tmp_path: Path) -> None:
    """Catches a conversation flattened into text, and lines broken by what a response holds."""
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    rows = [row(id="x", prompt=messages, response_a="tab\t\nline\u2028 ü \u0000", response_b="}\r\n{")]
    [only] = instructions(salmon_run(tmp_path / "run", [(1.0, 1.0, 1.0)], rows=rows))
    assert only["prompt"] == messages
    assert "ü".encode() in (tmp_path / "run" / "out.jsonl").read_bytes()
    assert (only["response_a"], only["response_b"]) == ("tab\t\nline\u2028 ü \u0000", "}\r\n{")


def test_from_a_real_run(tmp_path: Path) -> None:
    """Catches columns or a record that method salmon writes in another way than they are read here."""
    source = write_rows(tmp_path / "in.jsonl", [row(id=str(k), response_a=f"this {k}") for k in range(6)] + [b"bad"])
    settings: dict[str, Any] = {"input": str(source), "out": str(tmp_path / "labels"), "quiet": True, "limit": 5}
    run_label(LabelOptions(**settings, method="salmon"), fake_scorer_factory())
    rows = instructions(tmp_path / "labels", num_principles="11", passes=2)
    assert {one["id"] for one in rows} <= set("01234")
    assert all(len(one["names"]) == 11 for one in rows)
    for pair, scores in SalmonLabels(tmp_path / "labels").pairs(Dataset.open(source)):
        assert isinstance(pair, Pair)
        for one in rows:
            if one["id"] == pair.id:
                assert sorted(one["scores"]) == sorted(scores)


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    """Catches rows, scores or preferences gathered in a list: 15 MB of texts in 1,500 rows."""
    rows = [row(id=f"row {k}", response_a="x" * 10_000) for k in range(1500)]
    labels = salmon_run(tmp_path / "run", [(1.0, -2.0, 0.5)] * 1500, rows=rows)
    write_instructions(InstructionOptions(labels=str(labels), out=str(tmp_path / "warm.jsonl"), passes=1))
    tracemalloc.start()
    try:
        write_instructions(InstructionOptions(labels=str(labels), out=str(tmp_path / "x.jsonl"), passes=1))
        assert tracemalloc.get_traced_memory()[1] < 5 * 1024**2
    finally:
        tracemalloc.stop()
    assert (tmp_path / "x.jsonl").stat().st_size > 15_000_000


# errors


def failure(labels: Path, **changes: Any) -> str:
    """The message; whatever fails leaves no file behind."""
    settings = {"out": str(labels.parent / "out.jsonl")} | changes
    before = sorted(labels.parent.iterdir())
    with pytest.raises(PreftreeError) as error:
        write_instructions(InstructionOptions(labels=str(labels), **settings))
    assert sorted(labels.parent.iterdir()) == before
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("text", ["0", "-1", "2.5", "geometrical", "", "٣", "9" * 30, "1\n"])
def test_num_principles_is_geometric_or_a_number(tmp_path: Path, text: str) -> None:
    labels = salmon_run(tmp_path / "run", [(1.0, 1.0, 1.0)])
    assert "must be geometric or a whole number from 1" in failure(labels, num_principles=text)


def test_more_principles_than_there_are(tmp_path: Path) -> None:
    """Catches an endless draw, and principles of weight 0 counted."""
    two = (*PRINCIPLES[:2], replace(PRINCIPLES[2], weight=0.0))
    labels = salmon_run(tmp_path / "run", [(1.0, 1.0, 1.0)], two)
    assert "--num-principles is 3, and" in failure(labels, num_principles="3")
    assert failure(labels, num_principles="3").endswith("has 2 principles with a weight above 0")
    none = salmon_run(tmp_path / "none", [(1.0,)], (replace(PRINCIPLES[0], weight=0.0),))
    assert "has 0 principles with a weight above 0" in failure(none)


def test_nothing_to_negate_with(tmp_path: Path) -> None:
    """Catches "null" among the statements of training data, and an error for a principle that is never negated."""
    lacking = (*PRINCIPLES[:2], replace(PRINCIPLES[2], negative=None))
    labels = salmon_run(tmp_path / "run", [(1.0, 1.0, 1.0)], lacking)
    said = "principle 'precise' has no negative statement; use --negate 0, or --principles with a file that gives it"
    assert said in failure(labels, negate=0.01)
    [only] = instructions(labels, negate=0.0)
    assert sorted(only["principles"]) == ["Be concise.", "Be ethical.", "Be precise."]
    never = salmon_run(tmp_path / "never", [(1.0, 1.0, 1.0)], (*lacking[:2], replace(lacking[2], weight=0.0)))
    [only] = instructions(never, num_principles="2", negate=1.0)
    assert only["signs"] == [-1, -1]


def test_not_a_finished_run_of_salmon(tmp_path: Path) -> None:
    """Catches a traceback, or instructions made of something else."""
    labels = salmon_run(tmp_path / "run", [(1.0, 1.0, 1.0), (1.0, 1.0, 1.0)])
    rlaif = salmon_run(tmp_path / "rlaif", [(1.0, 1.0, 1.0)], method={"name": "rlaif"})
    assert "holds labels of method rlaif" in failure(rlaif)
    odd = salmon_run(tmp_path / "odd", [(1.0, 1.0, 1.0)], method={"name": "salmon", "principles": [{"name": "x"}]})
    assert "does not say which principles were judged" in failure(odd)
    other = salmon_run(tmp_path / "other", [(1.0, 1.0, 1.0)], (*PRINCIPLES, Principle("new", "Be.", "Do not be.")))
    assert "lacks a score for each principle" in failure(other)
    assert "no such file" in failure(tmp_path / "nowhere")
    (labels / "labels.parquet").write_bytes(b"PAR1 not")
    assert "cannot read" in failure(labels)
    (labels / "labels.parquet").unlink()
    assert "no such file" in failure(labels)
    (labels / "run.json").unlink()
    assert "no such file" in failure(labels)


def test_labels_in_another_order(tmp_path: Path) -> None:
    """Catches scores given to another pair's texts."""
    labels = salmon_run(tmp_path / "run", [(1.0, 1.0, 1.0)] * 2)
    rows = [row(id="row 1"), row(id="row 0")]
    back = salmon_run(tmp_path / "back", [(1.0, 1.0, 1.0)] * 2, rows=rows)
    (labels / "labels.parquet").write_bytes((back / "labels.parquet").read_bytes())
    assert "does not belong to" in failure(labels)


def test_the_input_has_changed(tmp_path: Path) -> None:
    """Catches scores put next to other texts."""
    labels = salmon_run(tmp_path / "run", [(1.0, 1.0, 1.0)])
    source = labels.parent / "in.jsonl"
    moved = source.rename(labels.parent / "moved.jsonl")
    assert "no such file" in failure(labels)
    assert len(instructions(labels, "moved-out.jsonl", input=str(moved))) == 1
    moved.write_bytes(moved.read_bytes() + b"\n")
    assert "is not the file that was labelled" in failure(labels, input=str(moved))


def test_nothing_left(tmp_path: Path) -> None:
    """Catches an empty file that looks like training data."""
    labels = salmon_run(tmp_path / "run", [(0.0, (1.0, -2.0), 0.0), None])
    message = failure(labels)
    dropped = "nothing to write; 4 preferences: every principle drawn has score 0; 1 row: no labels"
    assert f"{dropped}; a score is 0 where the two orders disagree, and --min-score 0 takes their mean" in message
    assert failure(labels, min_score=1.5).endswith(f"{dropped}; lower --min-score")


def test_places_that_are_taken(tmp_path: Path) -> None:
    """Catches the record of another file replaced, and labels overwritten by what is made from them."""
    labels = salmon_run(tmp_path / "run", [(1.0, 1.0, 1.0)])
    (labels.parent / "out.jsonl.run.json").write_text("{}")
    assert "out.jsonl.run.json exists already" in failure(labels)
    for path in (labels / "labels.parquet", labels / "run.json", labels.parent / "in.jsonl"):
        before = path.read_bytes()
        assert "is what instructions are made from" in failure(labels, out=str(path), overwrite=True)
        assert path.read_bytes() == before
    assert "no writable directory" in failure(labels, out=str(tmp_path / "no" / "x.jsonl"))


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an option that does not arrive, and a summary on stderr."""
    labels = salmon_run(tmp_path / "run", SCORES)
    out = tmp_path / "x.jsonl"
    command = ["instructions", str(labels), "--out", str(out)]
    options = ["--num-principles", "2", "--passes", "3", "--negate", "0", "--noise", "1", "--seed", "7"]
    assert cli.main([*command, *options, "--no-variance-scaling"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "120 preferences of 40 pairs in 3 passes, 120 flipped by noise" in " ".join(captured.out.split())
    rows = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert {(len(one["names"]), *one["signs"], one["flipped"], one["seed"]) for one in rows} == {(2, 1, 1, True, 7)}
    assert {score for one in rows for score in one["scores"]} <= {score for scores in SCORES for score in scores}
    assert cli.main(command) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("preftree: ")
    assert line.endswith("--overwrite")


def test_as_trl_takes_them(tmp_path: Path) -> None:
    """Catches conversations of other principles or responses, and another order of the two."""
    labels = salmon_run(tmp_path / "run", [(1.0, (-3.0, -1.0), 1.0), (0.5, (9.0, -1.0), -0.25)])
    asked: dict[str, Any] = {"num_principles": "2", "passes": 2, "negate": 0.5}
    made = instructions(labels, **asked)
    rows = instructions(labels, "trl.jsonl", to="trl", layout="response-first", **asked)
    for entry, preference in zip(rows, made, strict=True):
        assert entry["id"] == f"{preference['id']}/{preference['pass']}"
        for name, side in (("chosen", preference["chosen"]), ("rejected", "ab".replace(preference["chosen"], ""))):
            prompt = (Message("user", preference["prompt"]),)
            read = reward_messages(prompt, preference[f"response_{side}"], "response-first", preference["principles"])
            assert entry[name] == [{"role": role, "content": content} for role, content in read]
    with pytest.raises(PreftreeError, match="--layout requires --to"):
        instructions(labels, "other.jsonl", layout="response-first")
