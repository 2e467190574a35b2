"""`preftree.PairLabeler` in engines: Ray Data, in a process with the package beside the environment, and datasets."""

from __future__ import annotations

import json
from typing import Any

import pytest

import preftree as pt
from tests.models import SMALL_CONFIG, write_model
from tests.processes import RAY, ROOT, answered, require

datasets = pytest.importorskip("datasets")

ROWS = [
    {
        "id": f"pair {number}",
        "prompt": f"Which of {number // 2}?",
        "response_a": "  " if number in (0, 7) else "This." * (number % 4 + 1),
        "response_b": f"That {number}.",
    }
    for number in range(12)
]
# Dictionaries of NumPy's arrays, of which Ray guesses the types. One batch has no good row, another no bad one.
MAPPED = """
import json, sys
import ray, ray.data
import preftree as pt

model, rows = sys.argv[1], json.load(sys.stdin)
ray.init("local", num_cpus=2, object_store_memory=80 * 2**20, include_dashboard=False, log_to_driver=False)
labels = ray.data.from_items(rows, override_num_blocks=2).map_batches(
    pt.PairLabeler,
    fn_constructor_kwargs={"model": model, "dtype": "float32"},
    compute=ray.data.ActorPoolStrategy(size=1),
    batch_size=1,
    batch_format="numpy",
).materialize()
schema = labels.schema()
print(json.dumps([labels.take_all(), dict(zip(schema.names, map(str, schema.types), strict=True))]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG))


@pytest.fixture(scope="module")
def expected(model: str) -> list[dict[str, Any]]:
    """The labels of all rows in one go, by `preftree.label`."""
    labelled = pt.label(ROWS, pt.Judge.load(model)).to_arrow().select(["p_a", "verdict", "status"]).to_pylist()
    rejected = {"p_a": None, "reason": "blank text: response_a"}
    return [row | {"reason": None} if row["status"] == "ok" else row | rejected for row in labelled]


def chosen(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is compared. A dictionary of arrays has NaN for no number, and "" for no text."""
    return [
        {
            "p_a": row["p_a"] if row["p_a"] == row["p_a"] else None,
            "verdict": row["verdict"] or None,
            "status": row["status"],
            "reason": row["reason"] or None,
        }
        for row in rows
    ]


def test_ray_data(model: str, expected: list[dict[str, Any]]) -> None:
    """Catches a class that Ray cannot make, send or call, and blocks whose types differ."""
    require(RAY)
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    rows, types = answered("-c", MAPPED, model, imports=(ROOT, RAY), own=settings, given=json.dumps(ROWS))
    by_id = {row["id"]: row for row in rows}
    assert chosen([by_id[row["id"]] for row in ROWS]) == expected
    assert (types["p_a"], types["status"], types["reason"]) == ("double", "string", "string")


@pytest.mark.parametrize("processes", [None, 2])
@pytest.mark.parametrize("kind", [None, "arrow"])
def test_datasets(kind: str | None, processes: int | None, model: str, expected: list[dict[str, Any]]) -> None:
    """Catches a type that the first batch settles, and a labeler that does not survive a fork."""
    label = pt.PairLabeler(model, dtype="float32")
    rows = datasets.Dataset.from_list(ROWS).with_format(kind)
    assert label(rows[:1])["status"] is not None  # loaded before it goes to other processes
    found = rows.map(label, batched=True, batch_size=3, num_proc=processes, load_from_cache_file=False)
    assert chosen(found.with_format(None).to_list()) == expected


def test_datasets_know_a_labeler_again(model: str) -> None:
    """Catches labels that are made anew although they are in the cache of `datasets`, and old ones for new options."""
    hashed = datasets.fingerprint.Hasher.hash
    label = pt.PairLabeler(model)
    before = hashed(label)
    label({"prompt": ["Which?"], "response_a": ["this"], "response_b": ["that"]})
    assert hashed(label) == hashed(pt.PairLabeler(model)) == before
    assert hashed(pt.PairLabeler(model, exemplars=1)) != before
