"""Labels from Python: rows as people hold them, and what is said of those that cannot be labelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import preftree as pt
from preftree.labeling.pipeline import Labelled
from preftree.labeling.types import PairLabel
from tests.models import SMALL_CONFIG, write_model
from tests.processes import run_python

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS = [
    {
        "id": str(number),
        "prompt": f"Which of {number}?",
        "response_a": "This." * number,
        "response_b": "That.",
        "source": "here",
        "gold": "a",
    }
    for number in range(1, 5)
]

MAPPING = ("prompt=question", "response_a=left", "response_b=right")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG))


@pytest.fixture(scope="module")
def judge(model: str) -> pt.Judge:
    return pt.Judge.load(model)


def p_a(row: Labelled) -> float:
    assert isinstance(row.label, PairLabel)
    return row.label.p_a


def as_pandas(rows: list[dict[str, Any]]) -> Any:
    return pytest.importorskip("pandas").DataFrame(rows)


def as_dataset(rows: list[dict[str, Any]]) -> Any:
    return pytest.importorskip("datasets").Dataset.from_list(rows)


@pytest.mark.parametrize("convert", [list, pa.Table.from_pylist, as_pandas, as_dataset], ids=lambda f: f.__name__)
def test_rows_in_memory_get_the_labels_of_a_file(convert: Any, judge: pt.Judge, tmp_path: Path) -> None:
    """The same values in the same columns, gold and the columns that pass through included."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pt.label_file(path, tmp_path / "out", judge)
    expected = parquet.read_table(tmp_path / "out" / "labels.parquet")
    labels = pt.label(convert(ROWS), judge)
    assert labels.to_arrow().equals(expected)
    assert len(labels) == len(ROWS)
    assert [p_a(row) for row in labels] == expected.column("p_a").to_pylist()
    assert labels[2].item.id == "3"


def test_a_pair_may_have_a_string_as_its_prompt(judge: pt.Judge) -> None:
    row = ROWS[0]
    pairs = [pt.Pair("1", row["prompt"], row["response_a"], row["response_b"])]  # type: ignore[arg-type]
    assert pt.label(pairs, judge)[0].label == pt.label(ROWS[:1], judge)[0].label


def test_methods_take_their_options_by_name(judge: pt.Judge) -> None:
    [row] = pt.label(ROWS[:1], judge, "direct", scale="1-5")
    assert row.label is not None
    assert set(row.label.values()) >= {"score_a", "score_b", "verdict"}
    [row] = pt.label([{"question": "Which?", "left": "this", "right": "that"}], judge, mapping=MAPPING)
    assert p_a(row) > 0


def test_a_bad_row_keeps_its_place(judge: pt.Judge) -> None:
    labels = pt.label([ROWS[0], {"prompt": "Which?"}, "no row", ROWS[1]], judge)
    assert [row.reason for row in labels] == [
        None,
        "missing column: response_a, response_b",
        "not a dictionary: str",
        None,
    ]
    assert labels.to_arrow().column("status").to_pylist() == ["ok", "rejected", "rejected", "ok"]


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([], {}, "rows holds no rows"),
        ("pairs.jsonl", {}, "str is no collection of rows; use a list of dictionaries"),
        (7, {}, "int is no collection of rows"),
        (pa.table({"x": [1]}), {}, "rows has x: no columns that are known; name them, such as --map prompt=COLUMN"),
        (
            ROWS,
            {"method": "ranking"},
            "line 1: has response_a and response_b, but method ranking needs responses",
        ),
        (ROWS, {"method": "rliaf"}, "method 'rliaf' is not known; did you mean rlaif?"),
        (ROWS, {"principle": "x"}, "there is no option 'principle' for method rlaif; use one of calibration, cot"),
        (ROWS, {"device": "cuda"}, "there is no option 'device' for method rlaif; use one of calibration, cot"),
        (
            ROWS,
            {"method": "salmon", "principle": "x"},
            "no option 'principle' for method salmon; did you mean principles?",
        ),
        (ROWS, {"method": pt.Salmon(), "cot": True}, "cot: options belong to a method that is named, not to an object"),
        (ROWS, {"cot": True, "samples": 2}, "--samples requires --temperature above 0"),
        ([pt.Pair("1", (), "x", "y")], {"mapping": MAPPING}, "these rows are Pair objects"),
        ([pt.Response("1", (), "x")], {}, "no row can be labelled: method rlaif needs response_a and response_b"),
    ],
    ids=str,
)
def test_what_cannot_be_labelled_is_one_line(rows: Any, options: dict[str, Any], words: str, judge: pt.Judge) -> None:
    with pytest.raises(pt.InputError) as caught:
        pt.label(rows, judge, **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_judge_and_an_engine_can_be_closed(model: str) -> None:
    with pt.Judge.load(model) as judge:
        pt.label(ROWS[:1], judge)
    with pytest.raises(pt.InputError, match="this judge has no weights: it is closed"):
        pt.label(ROWS[:1], judge)
    with pt.Engine.load(model, dtype=torch.float32, device=torch.device("cpu")) as engine:
        assert engine.score([[5, 6]], [[[7]]]).logprob.shape == (1, 1)
    engine.close()
    with pytest.raises(pt.InputError, match="this engine is closed; load it again"):
        engine.score([[5, 6]], [[[7]]])


def test_an_unknown_dtype_is_one_line(model: str) -> None:
    with pytest.raises(pt.InputError, match="dtype 'complex64' is not supported; use one of float32"):
        pt.Engine.load(model, dtype=torch.complex64)


def test_a_file_may_name_its_model(model: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    summary = pt.label_file(tmp_path / "rows.jsonl", tmp_path / "out", model, method="direct")
    assert (summary.ok, summary.labels) == (1, tmp_path / "out" / "labels.parquet")
    with pt.Judge.load(model) as judge, pytest.raises(pt.InputError, match="there is no option 'device'"):
        pt.label_file(tmp_path / "rows.jsonl", tmp_path / "other", judge, device="cuda")
    with pytest.raises(pt.InputError, match="there is no option 'metod'"):
        pt.label_file(tmp_path / "rows.jsonl", tmp_path / "other", model, metod="direct")


@pytest.mark.parametrize(
    ("name", "options", "chosen"),
    [
        ("salmon", {"principles": "reinforcement"}, pt.Salmon("reinforcement")),
        ("direct", {"scale": "1-5"}, pt.Direct("1-5")),
        ("rlaif", {"exemplars": 1}, pt.Rlaif(exemplars=1)),
        ("rlaif", {"template": "helpfulness"}, pt.Rlaif("helpfulness")),
        ("principled", {"under": [["concise"]]}, pt.Principled(under=(("concise",),))),
    ],
)
def test_a_method_with_its_options_is_an_object(
    name: str, options: dict[str, Any], chosen: Any, judge: pt.Judge, tmp_path: Path
) -> None:
    expected = pt.label(ROWS, judge, name, **options).to_arrow()
    assert pt.label(ROWS, judge, method=chosen).to_arrow().equals(expected)
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    pt.label_file(path, tmp_path / "out", judge, method=chosen)
    assert parquet.read_table(tmp_path / "out" / "labels.parquet").equals(expected)


def test_memory_and_dtypes_as_people_write_them(model: str) -> None:
    with pt.Judge.load(model, dtype="fp32", kv_memory="1GiB") as judge:
        assert judge.describe()["dtype"] == "float32"
    with pytest.raises(pt.UsageError, match="--kv-memory must be bytes, such as 4GB or 4GiB, not '1 lot'"):
        pt.Judge.load(model, kv_memory="1 lot")


def test_the_library_is_silent() -> None:
    """Catches a warning on the terminal of somebody whose program calls preftree and did not ask for it."""
    code = "import logging, preftree; logging.getLogger('preftree').warning('something')"
    done = run_python("-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
