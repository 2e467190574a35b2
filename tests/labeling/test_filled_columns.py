"""A file of labels has the columns in which its rows can have values, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from preftree.labeling.data.dataset import DatasetInfo
from preftree.labeling.data.label_table import LabelTable
from preftree.labeling.data.row import FIELDS
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.registry import imitations_of, open_method
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.pipeline import filled_columns
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import (
    Answer,
    Message,
    Pair,
    PairLabel,
    Request,
    RequestScores,
    Response,
    ResponseSet,
    RewardRequest,
    Sample,
)

pa = pytest.importorskip("pyarrow")

PROMPT = (Message("user", "Which?"),)
OWN = {"verdict": "mine", "score": 7, "decided_by": "me", "reward": 1}
PAIR = Pair("pair", PROMPT, "This.", "That one.", gold="a", extra=OWN)
RESPONSE = Response("response", PROMPT, "This.", extra=OWN)
SET = ResponseSet("set", PROMPT, ("This.", "That one.", "Neither."), extra=OWN)
COT = {"cot": True, "temperature": 0.5, "samples": 2}
RUBRIC = [{"name": "kind", "criterion": "Is it kind?", "weight": 1}]
CASES: list[tuple[str, dict[str, Any], tuple[Sample, ...]]] = [
    ("rlaif", {}, (PAIR,)),
    ("rlaif", COT, (PAIR,)),
    *[("salmon", {"aggregate": rule}, (PAIR,)) for rule in ("strongest", "weighted", "won", "scaled")],
    *[("direct", more, samples) for more in ({}, COT) for samples in ((PAIR,), (RESPONSE,), (PAIR, RESPONSE))],
    *[("rubric", more, samples) for more in ({}, COT) for samples in ((PAIR,), (RESPONSE,), (PAIR, RESPONSE))],
    *[("principled", {"under": (("concise",),)}, samples) for samples in ((PAIR,), (RESPONSE,), (PAIR, RESPONSE))],
    ("ranking", {}, (SET,)),
    ("probe", {}, (PAIR,)),
    *[
        ("reward", under, samples)
        for under in ({}, {"under": (("concise",),)})
        for samples in ((PAIR,), (RESPONSE,), (SET,), (PAIR, RESPONSE, SET))
    ],
]


@pytest.fixture
def method(request: pytest.FixtureRequest, tmp_path: Path) -> Method:
    name, options = request.param
    if name == "rubric":
        (tmp_path / "rubric.json").write_text(json.dumps(RUBRIC))
        options = options | {"rubric": str(tmp_path / "rubric.json")}
    return open_method(JudgeOptions(input="x", method=name, **options))


def scores_of(number: int, request: Request) -> RequestScores:
    """Different for every request, so that nothing ties, and both orders prefer A."""
    if isinstance(request, RewardRequest):
        return RequestScores.single((0.5 * number, 0.25 * number), 1.0, 7)
    logprob = tuple(-1.0 - 0.1 * place * (number + 1) for place in range(len(request.labels)))
    if "B first" in request.title:
        logprob = logprob[::-1]
    if request.rationale is None:
        return RequestScores.single(logprob, 0.9, 7)
    samples = request.rationale.reasoning.n
    return RequestScores(tuple(Answer(logprob, 0.9, Rationale("so", 1, False)) for _ in range(samples)), 7)


def batches(method: Method, samples: tuple[Sample, ...]) -> tuple[Any, Any]:
    """Labels with the columns that are written, and with all of the method."""
    first_lines = {FIELDS[type(sample)]: line for line, sample in enumerate(samples, 1)}
    own: dict[str, Any] = {name: "string" if isinstance(value, str) else "int" for name, value in OWN.items()}
    info = DatasetInfo("x", len(samples), own, PAIR in samples, first_lines, None)
    rows: list[tuple[Any, Any]] = []
    for sample in samples:
        scores = [scores_of(number, one) for number, one in enumerate(method.requests(sample))]
        rows.append((sample, method.aggregate(sample, scores)))
    written = LabelTable(info, method.columns, imitations_of(method), filled_columns(method, info))
    return written.batch(rows), LabelTable(info, method.columns, imitations_of(method)).batch(rows)


def empty(name: str, array: Any) -> list[str]:
    """Columns, and fields of objects in lists, without a value in any row."""
    if not len(array) or array.null_count == len(array):
        return [name]
    if pa.types.is_list(array.type) and pa.types.is_struct(array.type.value_type):
        entries = array.flatten()
        return [
            one
            for field in entries.type
            for one in empty(f"{name}.{field.name}", entries.field(entries.type.get_field_index(field.name)))
        ]
    return []


def read(value: Any) -> Any:
    """Without what is null, in objects too."""
    if isinstance(value, dict):
        return {name: read(one) for name, one in value.items() if one is not None}
    return [read(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("method", "samples"), [((n, o), s) for n, o, s in CASES], indirect=["method"])
def test_every_column_has_values(method: Method, samples: tuple[Sample, ...]) -> None:
    """Catches a column that no row can fill, one that is lost with its values, and another name of an own column."""
    written, whole = batches(method, samples)
    assert [one for name in written.schema.names for one in empty(name, written.column(name))] == ["reason"]
    assert read(written.to_pylist()) == read(whole.to_pylist())
    assert written.schema.names == [name for name in whole.schema.names if name in written.schema.names]
    own = {f"input_{name}" if name in method.columns else name for name in OWN}
    assert own <= {*written.schema.names}


def test_an_input_without_good_rows_has_all_columns() -> None:
    """Catches a file without a column for labels, which nothing could read."""
    method = open_method(JudgeOptions(input="x", method="direct"))
    info = DatasetInfo("x", 1, {}, False, {}, None)
    assert filled_columns(method, info) == method.columns


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [(0.9, 0.6, True), (0.1, 0.4, True), (0.9, 0.1, False), (0.1, 0.9, False), (0.5, 0.9, False), (0.5, 0.5, False)],
)
def test_consistent(first: float, second: float, same: bool) -> None:
    """Catches an order that ties and is taken for one that agrees."""
    label = PairLabel((first + second) / 2, first, second, 0.9, 0.9, 1)
    assert label.consistent is same
    assert label.values()["consistent"] is same
