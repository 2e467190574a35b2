"""Figures as a query over labels.parquet: the same as row by row, in any pieces, of any file with the columns."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError, OutputError
from preftree.labeling import cli
from preftree.labeling.data import labels_file
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.labels_file import LABELS, LabelWriter
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.registry import make_method
from preftree.labeling.options.methods import (
    DirectOptions,
    MethodOptions,
    PrincipledOptions,
    RankingOptions,
    RlaifOptions,
    SalmonOptions,
)
from preftree.labeling.report import figures
from preftree.labeling.report.figures import figures_of
from preftree.labeling.types import Label, Rejected, RequestScores, Sample
from tests.labeling.by_row.agreement import BySubset
from tests.labeling.by_row.pairs import PairByRow
from tests.labeling.by_row.rankings import RankingByRow
from tests.labeling.by_row.salmon import SalmonByRow
from tests.labeling.by_row.scores import ScoreByRow
from tests.labeling.by_row.sets import PrincipledByRow
from tests.labeling.fakes import row, write_rows

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

EXAMPLES = Path(__file__).parents[2] / "examples" / "pairs.jsonl"
METHODS: dict[str, tuple[MethodOptions, Callable[[Any], Any]]] = {
    "rlaif": (RlaifOptions(), lambda _: PairByRow()),
    "direct": (DirectOptions(), lambda method: ScoreByRow(len(method.scale.values))),
    "salmon": (SalmonOptions(), lambda method: SalmonByRow(tuple(one.name for one in method.principles))),
    "ranking": (RankingOptions(comparisons=8), lambda _: RankingByRow()),
    "principled": (
        PrincipledOptions(under=(("concise",), ("helpful", "honest"))),
        lambda method: PrincipledByRow(
            tuple(one.name for one in method.sets.fixed), len(method.single.template.labels)
        ),
    ),
}


def random_rows(draws: random.Random, number: int) -> list[dict[str, Any]]:
    """Pairs, responses and lists of responses; some without gold, some without the column, some bad."""
    rows = []
    for place in range(number):
        texts = ["x" * draws.randrange(1, 9) + " " + "é" * draws.randrange(3) + str(k) for k in range(5)]
        shape = draws.choice(["pair", "pair", "pair", "single", "several", "blank"])
        changes: dict[str, Any] = {"response_a": texts[0], "response_b": "" if shape == "blank" else texts[1]}
        if shape == "single":
            changes = {"response_a": None, "response_b": None, "response": texts[0]}
        elif shape == "several":
            changes = {"response_a": None, "response_b": None, "responses": texts[: draws.randrange(2, 6)]}
        gold = draws.choice(["a", "b", "b", "tie", None])
        rows.append(row(id=place, kind=draws.choice(["web", "chat", None]), gold=gold, **changes))
    return rows


def random_scores(method: Method, sample: Sample, draws: random.Random) -> list[RequestScores]:
    """Now and then equal ones, so that there are ties, and small label masses."""
    tied = draws.random() < 0.15
    return [
        RequestScores.single(
            tuple(-1.0 if tied else -5 * draws.random() for _ in request.labels), draws.choice([0.3, 0.9]), 10
        )
        for request in method.requests(sample)
    ]


def labelled(path: Path, source: Path, method: Method, seed: int) -> list[tuple[Sample | Rejected, Label | None]]:
    """Writes random labels of every row that the method takes; the others are rejected."""
    dataset, draws = Dataset.open(source), random.Random(seed)
    rows: list[tuple[Sample | Rejected, Label | None]] = []
    for item in dataset.read():
        if isinstance(item, method.takes):
            try:
                rows.append((item, method.aggregate(item, random_scores(method, item, draws))))
                continue
            except InputError:
                pass
        rows.append((item if isinstance(item, Rejected) else Rejected(item.line, "kind", item.id, item.extra), None))
    with LabelWriter(path, dataset.info, method.columns) as writer:
        writer.add(rows)
        writer.publish()
    return rows


def assert_same(new: Any, old: Any, where: str = "") -> None:
    """Counts exactly, other numbers within 1e-12; what is new is not compared."""
    if isinstance(old, dict):
        for name, value in old.items():
            assert name in new, where + name
            assert_same(new[name], value, f"{where}{name}.")
    elif isinstance(old, list | tuple):
        assert len(new) == len(old), where
        for one, other in zip(new, old, strict=True):
            assert_same(one, other, where)
    elif isinstance(old, float) and old is not None:
        assert new == pytest.approx(old, rel=1e-12, abs=1e-12), where
    else:
        assert new == old, where


def without(figures: Any, *names: str) -> Any:
    if isinstance(figures, dict):
        return {name: without(value, *names) for name, value in figures.items() if name not in names}
    return [without(one, *names) for one in figures] if isinstance(figures, list) else figures


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("seed", [0, 1])
def test_as_row_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, seed: int) -> None:
    """Catches a figure of other rows, or with another sign, or of a piece of the file; and texts that change."""
    options, by_row = METHODS[name]
    monkeypatch.setattr(labels_file, "_GROUP_ROWS", 97)
    source = write_rows(tmp_path / "in.jsonl", random_rows(random.Random(seed), 400)) if seed else EXAMPLES
    method = make_method(name, options)
    column = "kind" if seed else "category"
    expected = BySubset(by_row(method), column) if "verdict" in method.columns else by_row(method)
    for item, label in labelled(tmp_path, source, method, seed):
        if label is not None:
            assert not isinstance(item, Rejected)
            expected.add(item, label)
    found = figures_of(tmp_path / LABELS, column if "verdict" in method.columns else None)
    assert_same(without(found.figures(), "subsets"), without(expected.figures(), "subsets"))
    if "verdict" in method.columns:
        values, by_hand = (sorted(one.figures()["subsets"]["values"], key=_value) for one in (found, expected))
        assert_same([one for one in values if one["pairs"]], by_hand)


def _value(one: dict[str, Any]) -> str:
    return str(one["value"])


# pieces and files from elsewhere


@pytest.mark.parametrize("name", METHODS)
def test_pieces_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Catches rows that are dropped or mixed up where a piece of the file ends."""
    source = write_rows(tmp_path / "in.jsonl", random_rows(random.Random(3), 120))
    labelled(tmp_path, source, make_method(name, METHODS[name][0]), 3)
    whole = figures_of(tmp_path / LABELS, "kind")
    monkeypatch.setattr(figures, "_BATCH_ROWS", 7)
    pieces = figures_of(tmp_path / LABELS, "kind")
    assert_same(pieces.figures(), whole.figures())
    assert pieces.lines() == whole.lines()
    assert (pieces.rows, pieces.rejected) == (whole.rows, whole.rejected)


def written(path: Path, **columns: Any) -> Path:
    parquet.write_table(pa.table(columns), path)
    return path


def test_labels_from_elsewhere(tmp_path: Path) -> None:
    """Catches figures that only files of ours have: without status, lengths or orders, in other types of numbers."""
    path = written(
        tmp_path / "theirs.parquet",
        p_a=pa.array([0.75, 0.25, None, 0.5], "float32"),
        gold=pa.array(["a", "a", "b", "b"]).dictionary_encode(),
        model=["one", "two", "one", "two"],
        response_a=["long text", "x", "x", "x"],
        response_b=["short", "yy", "yy", "x"],
    )
    found = figures_of(path, "model")
    assert (found.rows, found.figures()["pairs"], found.figures()["ties"]) == (4, 3, 1)
    assert found.figures()["agreement"] == pytest.approx(1.5 / 3)
    assert found.figures()["length_bias"]["chose_longer"] == 1.0
    assert found.figures()["position_bias"] is None
    assert [text for name, text in found.lines() if name == "missing"] == [
        "position bias needs p_a_first and p_a_second",
        "label mass needs label_mass_first and label_mass_second",
    ]
    assert [one["pairs"] for one in found.figures()["subsets"]["values"]] == [1, 2]


def test_verdicts_alone(tmp_path: Path) -> None:
    """Catches labels without probabilities that get no agreement."""
    path = written(tmp_path / "v.parquet", verdict=["a", "b", "tie", "none"], gold=["a", "a", "b", "b"])
    found = figures_of(path).figures()
    assert (found["pairs"], found["agreements"], found["calibration"]) == (3, 1.5, None)


def test_scores_alone(tmp_path: Path) -> None:
    """Catches scores of pairs that get no verdicts, although they are different."""
    found = figures_of(
        written(tmp_path / "s.parquet", score_a=[3, 4, 5], score_b=[1.0, 4.0, 9.0], gold=["a", "a", "a"])
    )
    assert found.figures()["mean_score"] == pytest.approx(26 / 6)
    assert (found.figures()["ties"], found.figures()["agreement"]) == (1, 0.5)
    assert dict(found.lines())["score"].endswith("of 6 responses")


def test_columns_that_pass_through_are_not_taken_for_labels(tmp_path: Path) -> None:
    """Catches the score of an input, or its status, read as that of the judge."""
    rows = [row(id=k, score=k, status=str(404), win_matrix=[[1]], gold="a") for k in range(3)]
    source = write_rows(tmp_path / "in.jsonl", rows)
    labelled(tmp_path, source, make_method("rlaif", RlaifOptions()), 0)
    assert figures_of(tmp_path / LABELS).figures()["pairs"] == 3
    labelled(tmp_path, source, make_method("direct", DirectOptions()), 0)
    assert figures_of(tmp_path / LABELS).figures()["responses"] == 6


def test_principles_in_another_order(tmp_path: Path) -> None:
    """Catches scores that go to the principle that stands in the same place."""
    entries = [{"name": name, "s12": s, "s21": s} for name, s in (("brief", 1.0), ("kind", -2.0))]
    path = written(tmp_path / "p.parquet", principles=[entries, entries[::-1]], gold=["a", "b"])
    brief, kind = figures_of(path).figures()["principles"]
    assert (brief["name"], brief["mean_score"], brief["agreement"]) == ("brief", 1.0, 0.5)
    assert (kind["name"], kind["mean_score"], kind["consistent"]) == ("kind", -2.0, 1.0)
    written(path, principles=[entries, entries[:1]])
    with pytest.raises(InputError, match=r"p\.parquet: column principles: each row needs one entry for each principle"):
        figures_of(path)
    written(path, principles=[[entries[0] | {"s21": math.nan}]])
    with pytest.raises(InputError, match=r"principles\.s21 has entries that are no finite numbers"):
        figures_of(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"x": [1]}, "holds no labels that figures can be made of: pairs need p_a or verdict, .*; it has x$"),
        (
            {"principles": [[{"name": "p", "s12": 1.0}]]},
            "principles need principles .name, s12, s21.*has principles$",
        ),
        ({"p_a": ["high"]}, "holds no labels"),
        ({"p_a": [1.5]}, "column p_a holds 1.5, which is no probability"),
        ({"p_a": [0.5], "p_a_first": ["x"], "p_a_second": [0.1]}, "column p_a_first holds string, not numbers"),
        ({"win_matrix": [[[None, 0.5]]]}, "column win_matrix: each row needs a square matrix"),
    ],
)
def test_what_figures_cannot_be_made_of(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    """Catches a traceback, and a message that does not say which column is missing or odd."""
    path = written(tmp_path / "odd.parquet", **columns)
    with pytest.raises(InputError, match=message) as caught:
        figures_of(path)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """Catches tracebacks out of pyarrow."""
    with pytest.raises(OutputError, match="no such file"):
        figures_of(tmp_path / "nothing.parquet")
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(OutputError, match="cannot read"):
        figures_of(tmp_path / "text.parquet")
    path = written(tmp_path / "cut.parquet", p_a=[0.5] * 10_000)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(OutputError, match="cannot read"):
        figures_of(path)
    with pytest.raises(InputError, match="has no column sauce; it has p_a"):
        figures_of(written(path, p_a=[0.5]), "sauce")


# the command


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches figures of a run that are not those in its labels, and JSON that is none."""
    labelled(tmp_path, EXAMPLES, make_method("rlaif", RlaifOptions()), 0)
    assert cli.main(["report", str(tmp_path), "--subset", "category"]) == 0
    text = capsys.readouterr().out
    for part in (
        "32 rows labelled",
        "agreement with gold",
        "calibration",
        "position bias",
        "length bias",
        "by category",
    ):
        assert part in text
    assert cli.main(["report", str(tmp_path / LABELS), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["about"] for one in found.pop("findings")] == ["agreement", "position_bias"]
    assert found == {"labelled": 32, "rejected": 0} | json.loads(json.dumps(figures_of(tmp_path / LABELS).figures()))


def test_report_of_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a command that waits for ever."""
    os.mkfifo(tmp_path / LABELS)
    for named in (tmp_path, tmp_path / LABELS):
        assert cli.main(["report", str(named)]) == 1
        assert f"cannot read {tmp_path / LABELS}: it is a named pipe; name a regular file" in capsys.readouterr().err


def test_report_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback for a directory without labels."""
    assert cli.main(["report", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err
        == f"preftree: no such file: {tmp_path / 'run.json'}; name a directory that `preftree label` has filled\n"
    )
    source = write_rows(tmp_path / "in.jsonl", [row(response_a="")])
    labelled(tmp_path, source, make_method("rlaif", RlaifOptions()), 0)
    assert cli.main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "labels  0 rows labelled, 1 row rejected\n"
