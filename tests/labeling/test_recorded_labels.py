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
from preftree.labeling.runs import run, show
from tests.labeling.fake_engine import FakeEngine, fake_scorer
from tests.models import SMALL_CONFIG, write_model

parquet = pytest.importorskip("pyarrow.parquet")

PAIRS = Path(__file__).parents[2] / "examples" / "pairs.jsonl"
ROWS = 6
COT = ("--cot", "--max-rationale-tokens", "8")
DRAWN = (*COT, "--samples", "2", "--temperature", "0.7")
ADDED = ("response_chars", "mass_matrix_first")
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
    assert fingerprint(out / "labels.parquet") == RECORDED[command]


def fingerprint(path: Path) -> str:
    """Of schema and rows, with floats to nine digits: the last bits of exp and log are the processor's.

    Without the columns that have been added since.
    """
    table = parquet.read_table(path)
    table = table.drop_columns([name for name in ADDED if name in table.column_names])
    text = json.dumps([str(table.schema.remove_metadata()), rounded(table.to_pylist())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value
