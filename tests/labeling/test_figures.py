"""Figures as a query over labels.parquet: the same as row by row, in any pieces, of any file with the columns."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError
from preftree.labeling.data import labels_file
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.labels_file import LABELS, LabelWriter
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.registry import make_method
from preftree.labeling.options import (
    DirectOptions,
    MethodOptions,
    PrincipledOptions,
    RankingOptions,
    RlaifOptions,
    SalmonOptions,
)
from preftree.labeling.report.figures import figures_of
from preftree.labeling.types import Label, Rejected, RequestScores, Sample
from tests.labeling.fakes import row, write_rows
from tests.labeling.row_by_row import BySubset, PairByRow, PrincipledByRow, RankingByRow, SalmonByRow, ScoreByRow

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
        lambda method: PrincipledByRow(tuple(one.name for one in method.sets), len(method.single.template.labels)),
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
