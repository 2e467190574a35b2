"""Labels are a function of input, answers and options: made again without a model, whatever order answers came in."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling import cli
from preftree.labeling.answers.answers import ANSWERS, Answers
from preftree.labeling.answers.part import write_part
from preftree.labeling.commands.table import OK, REJECTED_ROWS, USAGE
from preftree.labeling.data.folder import LocalFolder
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs import run as runs
from preftree.labeling.runs import show
from preftree.labeling.runs.run import run_label
from preftree.labeling.runs.shards import merge
from tests.labeling.commands import one_error
from tests.labeling.fakes import FakeScorer, fake_scorer_factory, row, write_rows
from tests.labeling.rundir.runs import Failing, labels, record

ROWS = 30


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows: list[Any] = [row(id=f"id {n}", response_a=f"this {n}", gold="ab"[n % 2], note=n % 3) for n in range(ROWS)]
    rows[4] = {**rows[4], "prompt": "TOO LONG"}
    rows[9] = b"bad"
    return write_rows(tmp_path / "in.jsonl", rows)


def salmon(source: Path, out: Path, scorer: FakeScorer | None = None, **changes: Any) -> Path:
    options = LabelOptions(input=str(source), out=str(out), method="salmon", quiet=True, **changes)
    run_label(options, fake_scorer_factory(scorer or FakeScorer(window_tokens=20_000)), open_method)
    return out


@pytest.fixture(autouse=True)
def _no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> Any:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(runs, "load_judge", explode)


@pytest.mark.parametrize("rule", ["strongest", "weighted", "won", "scaled"])
def test_another_rule(source: Path, tmp_path: Path, rule: str) -> None:
    """Catches labels that differ from those of a run with this rule, and a record of the old one beside them."""
    wanted = salmon(source, tmp_path / "wanted", aggregate=rule)
    out = salmon(source, tmp_path / "out")
    assert (labels(out) == labels(wanted)) == (rule == "strongest")
    answers = {path: path.read_bytes() for path in (out / ANSWERS).iterdir()}
    assert cli.main(["aggregate", str(out), "--aggregate", rule, "--quiet"]) == REJECTED_ROWS
    assert labels(out) == labels(wanted)
    again, other = record(out), record(wanted)
    assert (again["state"], again["options"]["aggregate"], again["method"]["aggregate"]) == ("complete", rule, rule)
    assert again["quality"] == other["quality"]
    assert again["totals"]["prompt_tokens"] == other["totals"]["prompt_tokens"]
    assert {path: path.read_bytes() for path in (out / ANSWERS).iterdir()} == answers


def test_principles_without_negatives(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a run of SALMON's own principle file that cannot be read again after it was recorded."""
    principles = tmp_path / "mine.json"
    entries = [{"dimension": f"P{n}", "definition": f"Be {n}.", "weight": n} for n in (1, 2)]
    principles.write_text(json.dumps(entries))
    out = salmon(source, tmp_path / "out", principles=str(principles))
    principles.unlink()
    recorded = record(out)["method"]["principles"]
    assert recorded[1] == {"name": "P2", "positive": "Be 2.", "weight": 2.0, "tags": []}
    assert cli.main(["aggregate", str(out), "--aggregate", "weighted", "--quiet"]) == REJECTED_ROWS
    assert record(out)["method"]["principles"] == recorded
    capsys.readouterr()
    monkeypatch.setattr(show, "load_judge", fake_scorer_factory(FakeScorer(window_tokens=20_000)))
    assert cli.main(["show", str(out), "id 0"]) == OK
    shown = capsys.readouterr().out
    assert "P2, B first" in shown
    assert "cannot be shown" not in shown
    command = ["instructions", str(out), "--out", str(tmp_path / "x.jsonl"), "--num-principles", "2"]
    assert cli.main(command) == USAGE
    assert "principle 'P1' has no negative statement; use --negate 0" in one_error(capsys)
    assert cli.main([*command, "--negate", "0"]) == OK
    assert '"Be 2."' in (tmp_path / "x.jsonl").read_text()


def test_into_another_directory(source: Path, tmp_path: Path) -> None:
    """Catches a run that loses its labels to an experiment, and a copy that is no run."""
    out = salmon(source, tmp_path / "out")
    before = labels(out)
    command = ["aggregate", str(out), "--aggregate", "won", "--out", str(tmp_path / "won"), "--quiet"]
    assert cli.main(command) == REJECTED_ROWS
    assert labels(out) == before != labels(tmp_path / "won")
    assert cli.main(["aggregate", str(tmp_path / "won"), "--aggregate", "strongest", "--quiet"]) == REJECTED_ROWS
    assert labels(tmp_path / "won") == before
    assert cli.main(command) == 1, "a run is there"
    assert cli.main([*command, "--overwrite"]) == REJECTED_ROWS
    assert labels(tmp_path / "won") != before


def test_the_same_command_with_another_rule_judges_nothing(source: Path, tmp_path: Path) -> None:
    """Catches hours that are spent again for a rule which no answer depends on."""
    wanted = salmon(source, tmp_path / "wanted", aggregate="won")
    out = salmon(source, tmp_path / "out")
    scorer = FakeScorer()
    salmon(source, out, scorer, aggregate="won")
    assert scorer.calls == []
    assert labels(out) == labels(wanted)


def test_figures_by_a_column(source: Path, tmp_path: Path) -> None:
    """Catches --by that needs a run of its own."""
    out = salmon(source, tmp_path / "out")
    assert cli.main(["aggregate", str(out), "--by", "note", "--quiet"]) == REJECTED_ROWS
    wanted = salmon(source, tmp_path / "wanted", subset="note")
    assert record(out)["quality"] == record(wanted)["quality"]


def test_the_order_of_answers_does_not_reach_labels(source: Path, tmp_path: Path) -> None:
    """Catches labels that follow the order in which workers finished."""
    out = salmon(source, tmp_path / "out")
    before = labels(out)
    answers = Answers.open(out / ANSWERS)
    entries = list(answers.entries())
    random.Random(0).shuffle(entries)
    for part in answers.parts:
        part.path.unlink()
    for sequence, start in enumerate(range(0, ROWS, 7), 1):
        mine = sorted(entries[start : start + 7])
        write_part(LocalFolder(out / ANSWERS), sequence, answers.parts[0].run, mine, answers.attempts())
    assert cli.main(["aggregate", str(out), "--quiet"]) == REJECTED_ROWS
    assert labels(out) == before


def test_answers_about_other_rows(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches answers joined to a row by place alone."""
    out = salmon(source, tmp_path / "out")
    before = labels(out)
    answers = Answers.open(out / ANSWERS)
    entries = [entry._replace(id="strange", text=7) if entry.number == 3 else entry for entry in answers.entries()]
    write_part(LocalFolder(out / ANSWERS), 9, answers.parts[0].run, entries, answers.attempts())
    assert cli.main(["aggregate", str(out), "--quiet"]) == 1
    assert "the answers of row 4 (strange) are about another text than is in" in one_error(capsys)
    assert labels(out) == before


def test_what_is_refused(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches labels of half a run, of another input or of no run, and options that are dropped without a word."""
    out = salmon(source, tmp_path / "out")
    before = labels(out)
    unfinished = tmp_path / "unfinished"
    with pytest.raises(ZeroDivisionError):
        salmon(source, unfinished, Failing(3, ZeroDivisionError()))
    plain = tmp_path / "plain"
    options = LabelOptions(input=str(source), out=str(plain), quiet=True)
    run_label(options, fake_scorer_factory(), open_method)
    cases = [
        ([str(tmp_path / "none")], 1, "none/run.json; name a directory that `preftree label` has filled"),
        ([str(unfinished)], 1, "answers about 27 rows of .* are damaged or missing; its `preftree label` command"),
        ([str(out), "--template", "general"], 2, "there is no option --template"),
        ([str(out), "--aggregate", "best"], 2, "--aggregate cannot be 'best'; use one of strongest"),
        ([str(out), "--by", "nothing"], 2, "has no column nothing for --by"),
        ([str(plain), "--aggregate", "won"], 2, "--aggregate is not for method rlaif"),
        ([str(out), "--out", str(plain)], 1, "plain exists already"),
        ([str(out), "--input", str(write_rows(tmp_path / "other.jsonl", [row()]))], 1, "is not the file that was"),
    ]
    for arguments, code, said in cases:
        assert cli.main(["aggregate", *arguments, "--quiet"]) == code, arguments
        assert re.search(said, one_error(capsys)), arguments
    assert labels(out) == before
    assert record(out)["state"] == "complete"


def test_a_run_without_rejects_is_done(tmp_path: Path) -> None:
    """Catches the exit code of rejected rows where there are none."""
    source = write_rows(tmp_path / "good.jsonl", [row(id=1), row(id=2)])
    out = salmon(source, tmp_path / "out")
    assert cli.main(["aggregate", str(out), "--quiet"]) == OK


def test_shards_of_two_rules_are_not_joined(source: Path, tmp_path: Path) -> None:
    """Catches labels of a rule that half of the machines were not told."""
    shards = [
        str(salmon(source, tmp_path / f"shard {index}", shard=f"{index}/2", aggregate=rule))
        for index, rule in ((1, "strongest"), (2, "won"))
    ]
    with pytest.raises(OutputError, match=r"method\.aggregate was strongest and is won now"):
        merge(shards, str(tmp_path / "merged"), None, False, True)
    assert cli.main(["aggregate", shards[1], "--aggregate", "strongest", "--quiet"]) in (OK, REJECTED_ROWS)
    merge(shards, str(tmp_path / "merged"), None, False, True)
    assert labels(tmp_path / "merged") == labels(salmon(source, tmp_path / "whole"))


def test_the_record_names_its_answers(source: Path, tmp_path: Path) -> None:
    """Catches a key that depends on where a run lies or on how fast it was, or that does not depend on the question."""

    def key(name: str, **changes: Any) -> str:
        return str(json.loads((salmon(source, tmp_path / name, **changes) / "run.json").read_text())["answers"])

    one = key("one")
    assert one == key("two", batch_tokens=7, aggregate="won") == key("three", shard="1/2")
    assert one == key("four", limit=3) == key("seven", sample=2, seed=7)
    assert len({one, key("five", preamble="base"), key("six", cot=True)}) == 3
