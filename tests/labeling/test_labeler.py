"""`preftree.PairLabeler`: batches get the labels of a file, whoever cuts them."""

from __future__ import annotations

import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import preftree as pt
from preftree.engine.errors import PreftreeError
from preftree.labeling import cli
from preftree.labeling.integrations import labeler
from tests.labeling.fakes import MINE, FakeScorer, fake_scorer_factory
from tests.labeling.reward_models import write_reward_model
from tests.models import SMALL_CONFIG, write_model

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
parquet = pytest.importorskip("pyarrow.parquet")

PAIRS = [
    {
        "id": f"pair {number}",
        "prompt": f"Which of {number // 2}?",
        "response_a": "This." * (number % 4 + 1),
        "response_b": f"That {number}.",
        "status": f"own {number}",
    }
    for number in range(14)
]
PAIRS[3]["response_a"] = "  "
PAIRS[8]["response_b"] = "long " * 1000  # beyond the small model's context
SETS = [
    {"id": f"set {number}", "prompt": "Which?", "responses": ["One.", "Two." * number, "Three.", "Four."]}
    for number in range(1, 6)
]
PRINCIPLES = "[{name: short, positive: is short}, {name: kind, positive: is kind}]"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG))


def cuts(length: int, seed: int) -> list[slice]:
    """Neighbouring batches of any sizes, some without a row."""
    places = [0, *sorted(np.random.default_rng(seed).integers(0, length + 1, 3).tolist()), length]
    return [slice(*ends) for ends in pairwise(places)]


@pytest.mark.parametrize(
    ("method", "rows", "options"),
    [
        ("rlaif", PAIRS, {}),
        ("rlaif", PAIRS, {"cot": True, "temperature": 0.7, "samples": 2, "max_rationale_tokens": 4}),
        ("direct", PAIRS, {"scale": "1-5"}),
        ("salmon", PAIRS[:5], {}),
        ("ranking", SETS, {"comparisons": 6}),
        ("principled", PAIRS, {"draw": 1}),
    ],
)
def test_labels_are_those_of_a_file_however_rows_are_cut(
    method: str, rows: list[dict[str, Any]], options: dict[str, Any], model: str, tmp_path: Path
) -> None:
    """Catches labels that depend on the batch: on places in it, on its other rows, on what came before."""
    if "draw" in options:
        (tmp_path / "principles.yaml").write_text(PRINCIPLES)
        options = options | {"principles": str(tmp_path / "principles.yaml")}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pt.label_file(tmp_path / "rows.jsonl", tmp_path / "out", model, method=method, **options)
    expected = parquet.read_table(tmp_path / "out" / "labels.parquet")
    label = pt.PairLabeler(model, method, **options)
    batch = pa.Table.from_pylist(rows)
    own = [name for name in batch.schema.names if name != "status"]
    added = [name for name in label.schema(batch.schema).names if name not in (*own, "input_status", "reason")]
    reasons = [reason and reason.partition(": ")[2] for reason in expected.column("reason").to_pylist()]
    for seed in range(3):
        found = pa.concat_tables([label(batch.slice(cut.start, cut.stop - cut.start)) for cut in cuts(len(rows), seed)])
        assert found.select(own).equals(batch.select(own))
        there = [name for name in added if name in expected.schema.names]
        assert filled(found.select(added)).to_pylist() == filled(expected.select(there)).to_pylist()
        assert filled(found.select(added)).schema.equals(filled(expected.select(there)).schema)
        assert found.column("reason").to_pylist() == reasons


def filled(table: Any) -> Any:
    """Without columns, and fields of sets, that are empty in every row: another batch may have values there."""
    rows = table.to_pylist()
    if "sets" in table.schema.names:
        kind = table.schema.field("sets").type
        fields = [
            one for one in kind.value_type if any(s[one.name] is not None for row in rows for s in row["sets"] or ())
        ]
        table = pa.table({"sets": pa.array([row["sets"] for row in rows], pa.list_(pa.struct(fields)))})
    return table.select([name for name in table.schema.names if table.column(name).null_count < len(rows)])


def as_lists(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def as_arrays(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: np.array(values, dtype=object) for name, values in as_lists(rows).items()}


def as_frame(rows: list[dict[str, Any]]) -> Any:
    return pd.DataFrame(rows, index=range(7, 7 + len(rows)))


@pytest.mark.parametrize("convert", [as_lists, as_arrays, as_frame])
def test_every_kind_of_batch_comes_back_as_it_is(convert: Any, model: str) -> None:
    """Catches another kind, an own column that is lost or renamed, an index that is made anew."""
    label = pt.PairLabeler(model)
    expected = label(pa.Table.from_pylist(PAIRS)).to_pydict()
    given = convert(PAIRS)
    found = label(given)
    assert type(found) is type(given)
    assert list(found) == list(expected)
    assert list(found["input_status"]) == [row["status"] for row in PAIRS]
    p_a = np.array(found["p_a"], dtype=float)
    assert np.array_equal(p_a, np.array(expected["p_a"], dtype=float), equal_nan=True)
    for name in ("verdict", "reason"):
        assert [text if isinstance(text, str) and text else None for text in found[name]] == expected[name]
    if convert is as_frame:
        assert list(found.index) == list(given.index)


@pytest.mark.parametrize("method", ["rlaif", "direct", "salmon", "ranking"])
def test_columns_do_not_depend_on_rows(method: str, model: str) -> None:
    """Catches a type that is guessed from values: of batches with no row, no good row, good rows."""
    rows = SETS if method == "ranking" else PAIRS[:2]
    bad = [row | dict.fromkeys(("prompt",), " ") for row in rows]
    label = pt.PairLabeler(model, method)
    schema = label.schema(pa.Table.from_pylist(rows).schema)
    for some in (rows, bad, rows[:0]):
        batch = pa.Table.from_pylist(some, pa.Table.from_pylist(rows).schema)
        assert label(batch).schema.equals(schema)
        assert label(batch.to_pydict()).keys() == dict.fromkeys(schema.names).keys()
    assert {type(values) for values in label(as_lists(bad)).values()} == {list, np.ndarray}
    of_good, of_bad = (label(as_lists(some)) for some in (rows, bad))
    plain = [field.name for field in schema if str(field.type) in ("double", "string")]
    kinds = [{name: np.asarray(found[name]).dtype.kind for name in plain} for found in (of_good, of_bad)]
    assert kinds[0] == kinds[1]


def test_rows_of_any_kind_of_value_are_rejected_alone(model: str) -> None:
    """Catches a batch that fails as a whole for what Python holds in one row."""
    odd: list[Any] = [
        None,
        7,
        float("nan"),
        ["no message"],
        np.array([1.0]),
        {"role": "user"},
        "\ud800",
        b"bytes",
        object(),
    ]
    rows = [PAIRS[0], *(PAIRS[0] | {"prompt": value} for value in odd), PAIRS[1]]
    for convert in (as_lists, lambda rows: pd.DataFrame(rows, dtype=object)):
        found = pt.PairLabeler(model)(convert(rows))
        bad = [place for place, status in enumerate(found["status"]) if status == "rejected"]
        assert bad == [1, 2, 3, 4, 5, 6, 7]
        assert all("\n" not in found["reason"][place] for place in bad)


def test_what_is_not_finite_is_the_rows_and_what_breaks_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a label of nothing, a batch that is lost for one row, and a broken engine that passes for bad rows."""
    loaded: list[Any] = []
    scorer = FakeScorer(window_tokens=10)

    def load(options: Any) -> Any:
        loaded.append(options)
        return fake_scorer_factory(scorer)(options)

    monkeypatch.setattr(labeler, "load_judge", load)
    label = pt.PairLabeler("somewhere")
    assert not loaded
    assert len(label(pa.Table.from_pylist(PAIRS[:0], pa.Table.from_pylist(PAIRS).schema))) == 0
    assert not loaded
    rows = [row | {"response_a": text} for row, text in zip(PAIRS, ("good", "NOT FINITE", "TOO LONG"), strict=False)]
    found = label(pa.Table.from_pylist(rows))
    assert found.column("status").to_pylist() == ["ok", "rejected", "rejected"]
    assert [reason and reason.split(" ", 2)[:2] for reason in found.column("reason").to_pylist()] == [
        None,
        ["the", "model's"],
        ["the", "prompt"],
    ]
    with pytest.raises(RuntimeError, match="the engine broke"):
        label(pa.Table.from_pylist([PAIRS[0] | {"prompt": "BOOM"}]))
    assert len(loaded) == 1


def test_it_goes_to_other_processes_without_its_model(model: str, tmp_path: Path) -> None:
    """Catches weights in a pickle, a hash that changes with use, and files that would have to be there, too."""
    path = tmp_path / "mine.txt"
    path.write_text(MINE % "")
    label = pt.PairLabeler(model, template=str(path), batch_tokens=500)
    batch = pa.Table.from_pylist(PAIRS)
    before = pickle.dumps(label)
    expected = label(batch)
    assert pickle.dumps(label) == before
    assert len(before) < 10_000
    path.unlink()
    again = pickle.loads(before)
    assert again(batch).equals(expected)
    assert pickle.loads(pickle.dumps(again))(batch).equals(expected)


def test_calibrated_labels(model: str, tmp_path: Path) -> None:
    """Catches a calibration that is lost on the way to another process, or goes with a judge it was not made for."""
    rows = [row | {"gold": "ab"[place % 3 == 0]} for place, row in enumerate(PAIRS)] * 4
    rows = [row | {"id": str(place)} for place, row in enumerate(rows)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run, made = str(tmp_path / "run"), str(tmp_path / "calibration.json")
    pt.label_file(tmp_path / "rows.jsonl", run, model)
    assert cli.main(["calibrate", run, "--out", made]) == 0
    pt.label_file(tmp_path / "rows.jsonl", tmp_path / "out", model, calibration=made)
    expected = parquet.read_table(tmp_path / "out" / "labels.parquet").select(["p_a", "p_a_uncalibrated"])
    label = pickle.loads(pickle.dumps(pt.PairLabeler(model, calibration=made)))
    assert label(pa.Table.from_pylist(rows)).select(["p_a", "p_a_uncalibrated"]).equals(expected)
    with pytest.raises(PreftreeError, match="template"):
        pt.PairLabeler(model, calibration=made, template="helpfulness")(pa.Table.from_pylist(rows))


def test_rewards_are_labels_too(tmp_path: Path) -> None:
    """Catches a judge that is loaded where a reward model is wanted."""
    rows = [{"prompt": "Which?", "response": text} for text in ("This.", "That.", " ")]
    model = str(write_reward_model(tmp_path / "model"))
    found = pt.PairLabeler(model, "reward")(pa.Table.from_pylist(rows))
    assert found.column("status").to_pylist() == ["ok", "ok", "rejected"]
    assert "reward" in found.schema.names


def test_an_iterator_of_record_batches(model: str) -> None:
    """Catches rows that are lost between batches, and a batch without rows that ends the iterator."""
    label = pt.PairLabeler(model)
    table = pa.Table.from_pylist(PAIRS)
    batches = [*table.slice(0, 5).to_batches(), *table.to_batches()[:1], table.slice(5).to_batches()[0]]
    batches[1] = batches[1].slice(0, 0)
    found = pa.Table.from_batches(list(label.record_batches(iter(batches))), label.schema(table.schema))
    assert found.equals(label(table))


GOOD = {"prompt": ["Which?"], "response_a": ["this"], "response_b": ["that"]}


@pytest.mark.parametrize(
    ("options", "batch", "words"),
    [
        ({"method": "rliaf"}, None, "method 'rliaf' is not known; did you mean rlaif?"),
        ({"dtyp": "float32"}, None, "there is no option 'dtyp'; did you mean dtype?"),
        ({"limit": 5}, None, "there is no option 'limit'"),
        ({"dtype": "float8"}, None, "--dtype cannot be 'float8'"),
        ({"batch_tokens": 0}, None, "--batch-tokens must be"),
        ({"scale": "1-5"}, None, "--scale is not for method rlaif; it is for direct and principled"),
        ({"mapping": ("prompt",)}, None, "--map prompt is not FIELD=COLUMN"),
        ({"template": "/no/such"}, None, "/no/such"),
        ({"method": "salmon", "aggregate": "scaled"}, None, "labels of method salmon depend on all rows"),
        ({"method": pt.Salmon(aggregate="scaled")}, None, "labels of method salmon depend on all rows"),
        ({"model": "/no/such"}, GOOD, "/no/such"),
        ({}, [GOOD], "list is no batch of columns; hand over a pyarrow.Table"),
        ({}, {"x": ["y"]}, "rows has x: no columns that are known"),
        ({}, {"prompt": ["?"], "response": ["."]}, "has prompt, response, but method rlaif needs response_a and"),
        ({"mapping": ("prompt=info.post",)}, {"info": ["?"], "response_a": ["."], "response_b": ["."]}, None),
        ({"mapping": ("prompt=info.post",)}, GOOD, "rows has no column info.post to --map to prompt"),
        ({}, {"prompt": ["?"], "response_a": [], "response_b": []}, "columns of a batch have different lengths: 0, 1"),
        (
            {"method": "ranking"},
            {"prompt": ["?"], "responses": [["a", "b"]]},
            "labels of method ranking depend on the id of a row",
        ),
        ({}, {"chosen": ["Yes"], "rejected": ["Yet"], "question": ["?"]}, "question may be the prompt"),
        ({}, {"chosen": [None], "rejected": [None], "question": ["?"]}, None),
        # A row of RM-Bench is nine pairs in a file.
        ({}, {"prompt": ["?"], "chosen": [["a", "b", "c"]], "rejected": [["d", "e", "f"]]}, None),
    ],
)
def test_what_no_row_can_repair(options: dict[str, Any], batch: Any, words: str | None, model: str) -> None:
    """Catches an option that is found wrong on a worker only, and columns that make every row a bad one."""

    def label() -> None:
        made = pt.PairLabeler(**{"model": model} | options)
        if batch is not None:
            assert list(made(batch)["status"]) == ["rejected"]

    if words is None:
        label()
    else:
        with pytest.raises(PreftreeError) as caught:
            label()
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_template_that_shows_a_column_which_no_row_has(model: str, tmp_path: Path) -> None:
    """Catches millions of rejected rows where one message would do."""
    path = tmp_path / "mine.txt"
    path.write_text(MINE % "{{ row.about }}")
    label = pt.PairLabeler(model, template=str(path))
    with pytest.raises(PreftreeError, match=r"a batch has prompt, .*, but method rlaif needs row\.about"):
        label(GOOD)
    assert list(label(GOOD | {"about": [None]})["status"]) == ["rejected"]
    assert list(label(GOOD | {"about": ["this"]})["status"]) == ["ok"]


def test_a_row_without_id_where_labels_depend_on_it(model: str) -> None:
    """Catches the place in a batch that takes the place of an id."""
    found = pt.PairLabeler(model, "ranking")(pa.Table.from_pylist([SETS[0], SETS[1] | {"id": None}]))
    assert found.column("reason").to_pylist() == [None, "missing id: labels of method ranking depend on it"]


def test_columns_inside_of_others_are_mapped(model: str) -> None:
    """Catches a mapping that is checked and then not applied."""
    made = pt.PairLabeler(model=model, mapping=("prompt=info.post",))
    batch = {"info": [{"post": "Which?"}], "response_a": ["This."], "response_b": ["That."]}
    assert list(made(batch)["status"]) == ["ok"]
