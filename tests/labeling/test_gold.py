"""Gold beside labels: read from files of every kind, matched by id, and refused in one line where it says nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from preftree.engine.errors import InputError, OutputError
from preftree.labeling import cli
from preftree.labeling.calibration.gold import GoldPairs, gold_pairs, read_gold
from preftree.labeling.commands.table import FAILURE, OK
from tests.labeling.calibrations import gold_file, judged
from tests.labeling.commands import one_error
from tests.labeling.fakes import write_rows
from tests.labeling.files import WRITERS

VERDICTS = {"x": "a", "y": "b", "z": "tie", "w": None}
GOLD: list[dict[str, Any]] = [{"id": name, "gold": verdict} for name, verdict in VERDICTS.items()]


def labels_file(path: Path, **columns: Any) -> Path:
    parquet.write_table(pa.table({"id": list("xyzw"), "p_a": [0.9, 0.2, 0.7, None], **columns}), path)
    return path


@pytest.fixture
def found(tmp_path: Path) -> Path:
    return labels_file(tmp_path / "labels.parquet")


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "x"])
def test_formats(found: Path, tmp_path: Path, name: str) -> None:
    """Catches a kind of file that inputs may be and gold may not, and an empty field of CSV taken for a verdict."""
    WRITERS[name](tmp_path / name, GOLD)
    pairs = gold_pairs(found, str(tmp_path / name))
    assert (pairs.ids, pairs.p_a.tolist(), pairs.gold_is_a.tolist()) == (("x", "y"), [0.9, 0.2], [True, False])
    assert (pairs.ties, pairs.unlabelled, pairs.unknown) == (1, 0, ())


@pytest.mark.parametrize(("said", "meant"), [("A", "a"), ("model_b", "b"), (0, "a"), (1, "b"), ("1", "b")])
def test_spellings(tmp_path: Path, said: Any, meant: str) -> None:
    """Catches gold that a row of an input may have and a gold file may not."""
    assert read_gold(str(write_rows(tmp_path / "g.jsonl", [{"id": 7, "gold": said}]))) == {"7": meant}


def test_gold_of_the_labels(tmp_path: Path) -> None:
    """Catches pairs in another order than their rows, rejected rows, and subsets of other rows."""
    path = labels_file(tmp_path / "labels.parquet", gold=["b", "tie", "a", "a"], source=["web", "web", None, "book"])
    pairs = gold_pairs(path, subset="source")
    assert (pairs.ids, pairs.gold_is_a.tolist(), pairs.subset) == (("x", "z"), [False, True], ("web", "null"))
    assert (pairs.ties, pairs.unlabelled) == (1, 1)
    assert dict(pairs.lines())["left out"] == "1 pair with gold and without p_a"


def test_labels_from_elsewhere(tmp_path: Path) -> None:
    """Catches a column that is asked for though nothing needs it."""
    parquet.write_table(pa.table({"p_a": [0.9, 0.2], "gold": ["a", "a"]}), tmp_path / "x.parquet")
    assert gold_pairs(tmp_path / "x.parquet").ids == ("0", "1")
    command = ["calibrate", str(tmp_path / "x.parquet"), "--out", str(tmp_path / "cal.json"), "--method", "isotonic"]
    assert cli.main(command) == OK
    assert json.loads((tmp_path / "cal.json").read_text())["judged"] == {}


def test_what_the_judge_said_is_calibrated(tmp_path: Path) -> None:
    """Catches a calibration of calibrated probabilities, which would be applied to others."""
    path = labels_file(tmp_path / "x.parquet", gold=["a"] * 4, p_a_uncalibrated=[0.99, 0.01, 0.8, None])
    assert gold_pairs(path).p_a.tolist() == [0.99, 0.01, 0.8]


def test_ids_that_the_labels_do_not_have(found: Path, tmp_path: Path) -> None:
    """Catches gold of another input that is left out in silence."""
    rows = [*GOLD, *({"id": f"other {n}", "gold": "a"} for n in range(5))]
    pairs = gold_pairs(found, str(write_rows(tmp_path / "g.jsonl", rows)))
    assert dict(pairs.lines())["unknown"] == "5 ids of the gold file not in the labels: other 0, other 1, other 2, ..."


@pytest.mark.parametrize("side", ["a", "b"])
def test_gold_of_one_class(found: Path, tmp_path: Path, side: str) -> None:
    """Catches gold that is always A, as in files of chosen and rejected, that passes without a word."""
    pairs = gold_pairs(found, str(write_rows(tmp_path / "g.jsonl", [{"id": "x", "gold": side}])))
    assert dict(pairs.lines())["warning"].startswith(f"gold is always {side}: in labels of one order")
    assert "warning" not in dict(GoldPairs(("x", "y"), pairs.p_a, pairs.gold_is_a[[0, 0]] ^ [True, False]).lines())


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"id": "x", "gold": "good"}], "line 1: bad gold: must be"),
        ([{"id": "x", "gold": "a"}, {"gold": "a"}], "line 2: missing column: id; gold files have id and gold"),
        ([{"id": "x", "verdict": "a"}], "line 1: missing column: gold"),
        ([{"id": None, "gold": "a"}], "line 1: bad id: null"),
        ([{"id": "x", "gold": "a"}, {"id": "x", "gold": "b"}], 'line 2: id "x" has gold a on another line and b here'),
        ([b"{"], "line 1: broken JSON"),
        ([{"id": "x", "gold": None}], "has no gold; each row needs id and gold"),
        ([{"id": "z", "gold": "tie"}], "which response is better: it has 1 pair whose gold is a tie"),
        ([{"id": "w", "gold": "a"}], "which response is better: it has 1 pair with gold and without p_a"),
        ([{"id": "q", "gold": "a"}], "which response is better: it has 1 id not in the labels, such as q"),
    ],
)
def test_gold_that_says_nothing(found: Path, tmp_path: Path, rows: list[Any], said: str) -> None:
    """Catches a traceback, or a message that leaves one guessing which line."""
    path = write_rows(tmp_path / "g.jsonl", rows)
    with pytest.raises(InputError) as error:
        gold_pairs(found, str(path))
    assert said in str(error.value)
    assert "g.jsonl" in str(error.value)


def test_labels_without_what_is_needed(found: Path, tmp_path: Path) -> None:
    """Catches a KeyError of a column, and probabilities that are none."""
    gold = str(write_rows(tmp_path / "g.jsonl", GOLD))
    parquet.write_table(pa.table({"score": [1.0]}), tmp_path / "scores.parquet")
    parquet.write_table(pa.table({"p_a": [0.5]}), tmp_path / "no ids.parquet")
    parquet.write_table(pa.table({"id": ["x"], "p_a": [1.5]}), tmp_path / "odd.parquet")
    (tmp_path / "text.parquet").write_text("PAR1")
    for arguments, said in (
        ((found,), "has no gold; name a file with columns id and gold with --gold"),
        ((tmp_path / "scores.parquet", gold), "has no column p_a, the probability that A is better"),
        ((tmp_path / "no ids.parquet", gold), "has no column id, by which --gold could be matched"),
        ((tmp_path / "odd.parquet", gold), "1.5, which is no probability"),
        ((found, gold, "topic"), "has no column topic; it has id, p_a"),
    ):
        with pytest.raises(InputError, match=said.replace(".", r"\.")):
            gold_pairs(*arguments)
    for name, said in (("missing", "no such file"), ("text", "cannot read")):
        with pytest.raises(OutputError, match=said):
            gold_pairs(tmp_path / f"{name}.parquet", gold)


def test_the_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback on the command line, and a file that is overwritten by what was made of it."""
    run = judged(tmp_path / "run")
    gold, out = gold_file(run), tmp_path / "cal.json"
    worse = write_rows(tmp_path / "worse.jsonl", _turned(gold))
    capsys.readouterr()
    for arguments, said in (
        ([str(run)], "has no gold; name a file"),
        ([str(run), "--gold", str(tmp_path / "none.jsonl")], "no such file"),
        ([str(run), "--gold", str(worse)], "the judge is no better than a coin on 39 gold pairs"),
        ([str(tmp_path / "nothing")], "no such file"),
        ([str(run), "--gold", str(gold), "--subset", "topic"], "has no column topic"),
    ):
        assert cli.main(["calibrate", *arguments, "--out", str(out)]) == FAILURE
        assert said in one_error(capsys)
    assert not out.exists()
    assert cli.main(["calibrate", str(run), "--gold", str(gold), "--out", str(gold), "--overwrite"]) == FAILURE
    assert "is what is calibrated by" in one_error(capsys)


def _turned(gold: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in gold.read_text().splitlines()]
    return [{**one, "gold": {"a": "b", "b": "a"}[one["gold"]]} for one in rows]
