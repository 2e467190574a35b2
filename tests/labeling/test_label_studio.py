"""Pairs go to Label Studio and come back as gold, whichever response stood on the left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from preftree.engine.errors import InputError
from preftree.labeling import cli
from preftree.labeling.calibration.gold import gold_pairs, read_gold
from preftree.labeling.calibration.label_studio import majority
from preftree.labeling.commands.table import OK
from preftree.labeling.data.labels_file import LABELS
from preftree.labeling.export.label_studio import CONFIGURATION
from preftree.labeling.types import Verdict
from tests.labeling.calibrations import ROWS, judged, table

Task = dict[str, Any]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return judged(tmp_path / "run")


@pytest.fixture
def tasks(run: Path) -> list[Task]:
    return exported(run)


def exported(run: Path, *arguments: str) -> list[Task]:
    out = run.with_name("tasks.json")
    assert cli.main(["export", str(run), "--to", "label-studio", "--out", str(out), "--overwrite", *arguments]) == OK
    found: list[Task] = json.loads(out.read_text())
    return found


def choice(side: str) -> dict[str, Any]:
    return {"from_name": "preference", "to_name": "prompt", "type": "choices", "value": {"choices": [side]}}


def pairwise(side: str) -> dict[str, Any]:
    return {"from_name": "preference", "to_name": "left,right", "type": "pairwise", "value": {"selected": side}}


def annotated(task: Task, *results: dict[str, Any], **annotation: Any) -> Task:
    """The task as it is exported as JSON, with an annotation for each result."""
    made = [{"id": place, "was_cancelled": False, "result": [one], **annotation} for place, one in enumerate(results)]
    return {"id": 900, "meta": {}, "predictions": [], **task, "annotations": made}


def minimal(task: Task, *sides: Any) -> list[Task]:
    """The task as it is exported as JSON-MIN, whose id is Label Studio's own."""
    known = {"id": 900, "annotator": 1, "lead_time": 2.5}
    return [{**task["data"], **known, "annotation_id": place, "preference": one} for place, one in enumerate(sides)]


def gold(path: Path, rows: list[Task]) -> dict[str, str]:
    path.write_text(json.dumps(rows, indent=2))
    return dict(read_gold(str(path)))


def side_of(task: Task, verdict: str) -> str:
    """Where the response stands that is A or B."""
    return "left" if task["data"]["left_is"] == verdict else "right"


def test_tasks_hold_the_pairs(run: Path, tasks: list[Task]) -> None:
    """Catches a response under the other's name, one side that is always A, and the judge's opinion in a task."""
    source = [json.loads(line) for line in run.with_name("pairs-0.jsonl").read_text().splitlines()]
    rows = {one["id"]: one for one in source if one["response_a"] != one["response_b"]}
    assert [task["data"]["pair_id"] for task in tasks] == list(rows)
    for data in (task["data"] for task in tasks):
        row = rows[data["pair_id"]]
        shown = (data["left"], data["right"]) if data["left_is"] == "a" else (data["right"], data["left"])
        assert (*shown, data["prompt"]) == (row["response_a"], row["response_b"], row["prompt"])
        assert set(data) == {"pair_id", "prompt", "left", "right", "left_is"}
    assert 0.25 < [task["data"]["left_is"] for task in tasks].count("a") / len(tasks) < 0.75
    assert exported(run) == tasks


def test_the_configuration_names_what_tasks_hold(run: Path, tasks: list[Task]) -> None:
    """Catches a project that shows nothing, and answers under a name or value that is not read."""
    assert run.with_name("tasks.xml").read_text() == CONFIGURATION
    view = ElementTree.fromstring(CONFIGURATION)
    texts = {one.get("name"): one.get("value") for one in view.iter("Text")}
    assert {str(value).removeprefix("$") for value in texts.values()} <= tasks[0]["data"].keys()
    [choices] = view.iter("Choices")
    assert (choices.get("name"), choices.get("toName") in texts) == ("preference", True)
    assert [one.get("alias") for one in choices] == ["left", "right", "tie"]


@pytest.mark.parametrize("kind", ["json", "json-min", "pairwise"])
def test_answers_are_gold(run: Path, tasks: list[Task], kind: str) -> None:
    """Catches left taken for A, and Label Studio's id taken for that of the pair."""
    verdicts = {one["id"]: one["verdict"] for one in table(run)}
    rows: list[Task] = []
    for task in tasks:
        side = side_of(task, verdicts[task["data"]["pair_id"]])
        made = pairwise(side) if kind == "pairwise" else choice(side)
        rows += minimal(task, side) if kind == "json-min" else [annotated(task, made)]
    found = gold(run.with_name("gold.json"), rows)
    assert found == {name: verdicts[name] for name in found}
    assert len(found) == ROWS - 1
    pairs = gold_pairs(run / LABELS, str(run.with_name("gold.json")))
    assert ((pairs.p_a > 0.5) == pairs.gold_is_a).all()


def test_several_annotators(tmp_path: Path, tasks: list[Task]) -> None:
    """Catches a half that passes for a majority, and a skipped task that counts."""
    [task, other, skipped, empty] = tasks[:4]
    a, b = side_of(task, "a"), side_of(task, "b")
    rows = [
        annotated(task, choice(a), choice(b), choice(a)),
        *minimal(other, side_of(other, "a"), side_of(other, "b"), [{"selected": side_of(other, "b")}], "tie"),
        annotated(skipped, choice("left"), was_cancelled=True),
        annotated(empty),
    ]
    found = gold(tmp_path / "gold.json", rows)
    assert found == {task["data"]["pair_id"]: "a", other["data"]["pair_id"]: "tie"}
    several: list[list[Verdict]] = [["a", "tie"], ["b", "b", "tie"], ["tie"]]
    assert [majority(votes) for votes in several] == ["tie", "b", "tie"]


def test_refusals(tmp_path: Path, tasks: list[Task]) -> None:
    """Catches answers about tasks that do not say which response was where, and a traceback for odd files."""
    other = {"id": 1, "data": {"text": "x"}, "annotations": []}
    bare = {**tasks[0]["data"], "annotation_id": 1, "id": 2}
    cases: list[tuple[Task, str]] = [
        (other, "line 1: bad task: it has no pair_id and left_is"),
        ({**bare, "left_is": "c"}, "bad task"),
        ({**bare, "preference": "middle"}, 'bad preference: must be left, right, tie, found "middle"'),
        ({**bare, "preference": ["left", "right"]}, "must be one choice"),
        ({**bare, "preference": 3}, "must be one choice, found 3"),
        (annotated(tasks[0]) | {"annotations": [7]}, "an annotation has no result"),
        (annotated(tasks[0], choice("left"), was_cancelled=True), "has no gold"),
    ]
    for row, message in cases:
        with pytest.raises(InputError, match=re.escape(message)) as error:
            gold(tmp_path / "gold.json", [row])
        assert "\n" not in str(error.value)
