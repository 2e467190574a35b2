"""Labels of the example pairs under every method, with a fake engine: the values that were recorded once.

Whatever moves or is rewritten between prompt and labels.parquet, these hashes stay. Where a change is meant to change
labels, the test prints the new hash.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from preftree.labeling import cli
from preftree.labeling.data.label_table import arrow_type
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs import run, show
from preftree.labeling.runs.recorded import options_again
from tests.labeling.fake_engine import FakeEngine, fake_scorer
from tests.models import SMALL_CONFIG, write_model

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

PAIRS = Path(__file__).parents[2] / "examples" / "pairs.jsonl"
ROWS = 6
COT = ("--cot", "--max-rationale-tokens", "8")
DRAWN = (*COT, "--samples", "2", "--temperature", "0.7")
ADDED = ("response_chars", "mass_matrix_first", "imitates_template")
PAIR_ADDED = "consistent"  # of labels of pairs, as a bool
RECORDED: dict[tuple[str, ...], str] = {
    ("label", "--method", "rlaif"): "75f0bf782a9b1638",
    ("label", "--method", "rlaif", "--template", "helpfulness", "--chat"): "cba5be0643acd2fb",
    ("label", "--method", "rlaif", *COT): "e90a05890615dd58",
    ("label", "--method", "salmon", "--principles", "labelled"): "7e9a9694c9b39db6",
    (
        "label",
        "--method",
        "salmon",
        "--aggregate",
        "weighted",
        *COT,
        "--samples",
        "2",
        "--temperature",
        "0.7",
    ): "2723fb50eec0d813",
    ("label", "--method", "direct"): "308d039948182778",
    ("label", "--method", "direct", "--scale", "1-5", *COT): "69a905b745e947e1",
    ("label", "--method", "ranking"): "f1abcae5371e3528",
    ("score", "--under", "concise", "not helpful", "--under", "honest", "--guard"): "f3735b05abde3cec",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG))


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Short rows of the examples; three responses each where they are ranked."""
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()[:ROWS]]
    short = [{**row, **{name: row[name][:200] for name in ("prompt", "response_a", "response_b")}} for row in rows]
    if "ranking" in request.node.callspec.params["command"]:
        short = [
            {"prompt": row["prompt"], "responses": [row["response_a"], row["response_b"], row["prompt"]]}
            for row in short
        ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in short), encoding="utf-8")
    return path


@pytest.mark.parametrize("command", RECORDED, ids=" ".join)
def test_labels_are_those_recorded(
    command: tuple[str, ...], model: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine()
    for module in (run, show):
        monkeypatch.setattr(
            module, "load_judge", lambda options, weights=True: fake_scorer(model, engine, options.batch_tokens)
        )
    verb, *options = command
    out = tmp_path / "out"
    assert cli.main([verb, str(source), "--out", str(out), "--quiet", *options]) == 0
    assert engine.calls
    assert {row["status"] for row in parquet.read_table(out / "labels.parquet").to_pylist()} == {"ok"}
    assert fingerprint(out) == RECORDED[command]


def fingerprint(out: Path) -> str:
    """Of schema and rows, with floats to nine digits: the last bits of exp and log are the processor's.

    Without the columns that have been added since, and with those of the method that are not written any more, as they
    have no values.
    """
    record = json.loads((out / "run.json").read_text())
    method = open_method(options_again(LabelOptions, record), record["method"])
    table = parquet.read_table(out / "labels.parquet")
    fields = {"id": table.schema.field("id")}
    fields |= {name: pa.field(name, arrow_type(kind)) for name, kind in without_added(method.columns).items()}
    fields |= {field.name: field for field in table.schema if field.name not in (*fields, *ADDED, *method.columns)}
    parquet.write_table(pa.Table.from_pylist(table.to_pylist(), pa.schema(list(fields.values()))), out / "before")
    table = parquet.read_table(out / "before")
    text = json.dumps([str(table.schema.remove_metadata()), rounded(table.to_pylist())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def without_added(columns: Any) -> Any:
    """Columns, or fields of nested ones, without those that are new."""
    if isinstance(columns, list):
        return [without_added(one) for one in columns]
    if not isinstance(columns, dict):
        return columns
    is_new = "position_gap" in columns
    kept = {name: kind for name, kind in columns.items() if name not in ADDED and not (is_new and name == PAIR_ADDED)}
    return {name: without_added(kind) for name, kind in kept.items()}


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value
