"""Data sets by their names on the hub, and runs over them: from a stand-in on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError
from preftree.labeling.comparing.compare import compare
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.hub_dataset import HubDataset, splits_of
from preftree.labeling.judge.protocol import load_judge
from preftree.labeling.options.comparing import CompareOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.recorded import labelled_input
from preftree.labeling.runs.run import run_label
from tests.hub_stand_in import Hub, hub_stand_in
from tests.labeling.fakes import row

CARD = b"""---
configs:
- config_name: chat
  data_files:
  - {split: train, path: chat/*.jsonl}
- config_name: code
  data_files:
  - {split: train, path: [code/a.jsonl, code/b.jsonl]}
  - {split: test, path: code/test.jsonl}
---
A data set.
"""


def lines(number: int) -> bytes:
    return b"".join(json.dumps(row(id=f"row {index}")).encode() + b"\n" for index in range(number))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.chdir(tmp_path)
    with hub_stand_in(tmp_path / "cache", monkeypatch) as running:
        running.add("datasets/org/two", {"train.jsonl": lines(2), "test.jsonl": lines(3), "two.py": b"exit()"})
        shards = {f"data/train-0000{part}-of-00002.jsonl": lines(2 + part) for part in range(2)}
        running.add("datasets/org/sharded", shards)
        files = {"chat/x.jsonl": lines(1), "code/a.jsonl": lines(2), "code/b.jsonl": lines(3)}
        running.add("datasets/org/card", files | {"code/test.jsonl": lines(4), "README.md": CARD})
        yield running


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("org/two:test", 3),
        ("org/sharded", 5),
        ("org/sharded:train", 5),
        ("org/card:chat", 1),
        ("org/card:code/train", 5),
        ("org/card:code/test", 4),
    ],
)
def test_names_of_splits(hub: Hub, name: str, rows: int) -> None:
    """Catches a split with the rows of another, and files fetched of splits that nobody asked for."""
    dataset = Dataset.open(name)
    assert dataset.info.rows == rows
    wanted = {file.path.name for file in dataset.files}
    assert {one.rpartition("/")[2] for one in hub.fetched} <= wanted | {"README.md"}
    again = Dataset.open(name, offline=True)
    assert (hub.asked, again.sha256, again.paths) == ([], dataset.sha256, dataset.paths)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("org/two", r"^several splits in org/two; name one of org/two:test, org/two:train$"),
        ("org/two:tset", r"^no split org/two:tset; name one of org/two:test, org/two:train$"),
        (
            "org/card",
            r"^several splits in org/card; name one of org/card:chat/train, org/card:code/train, .*test$",
        ),
        ("org/none", r"^org/none: no such file or directory here, and no dataset of that name at http.*HF_TOKEN$"),
        ("org/two@v9:train", r"^org/two: there is no revision v9; http\S+/datasets/org/two lists"),
        ("org/gated", r"^org/gated: it is gated; accept its terms at http\S+/datasets/org/gated, .*HF_TOKEN$"),
        (
            "org/pickles",
            r"^org/pickles has no data files but pickles \(train.pkl\), which .*; save its rows",
        ),
        ("org/script", r"a loading script is never run; try .*: org/script@refs/convert/parquet$"),
    ],
)
def test_data_sets_that_cannot_be_read(hub: Hub, name: str, said: str) -> None:
    """Catches a traceback, a script that runs, and a missing split without the ones that are there."""
    hub.add("datasets/org/gated", {"train.jsonl": lines(1)}, gated=True)
    hub.add("datasets/org/pickles", {"README.md": b"", "train.pkl": b""})
    hub.add("datasets/org/script", {"script.py": b"raise SystemExit"})
    with pytest.raises(InputError, match=said):
        Dataset.open(name)


def test_offline_without_all_of_it(hub: Hub) -> None:
    """Catches half of a data set labelled in silence as if it were the whole."""
    files = Dataset.open("org/sharded").files
    hub.asked.clear()
    files[1].path.unlink()
    with pytest.raises(InputError, match=r"^the cache has 1 of the 2 files data/train-\*.jsonl of org/sharded; get"):
        Dataset.open("org/sharded", offline=True)
    with pytest.raises(InputError, match=r"^org/two: .*not in the cache .*--offline or HF_HUB_OFFLINE"):
        Dataset.open("org/two:train", offline=True)
    with pytest.raises(InputError, match=r"nothing may be downloaded \(--offline or HF_HUB_OFFLINE\); name a copy"):
        Dataset.open("hf://datasets/org/two/train.jsonl", offline=True)
    assert hub.asked == []


def test_a_hub_that_cannot_be_reached(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a cached data set that cannot be read in a train."""
    rows = Dataset.open("org/two:train").info.rows
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert Dataset.open("org/two:train").info.rows == rows
    assert "what the cache has of it is taken" in caplog.text
    with pytest.raises(InputError, match=r"^org/sharded: no such .* here, and http://127.0.0.1:9 cannot be reached"):
        Dataset.open("org/sharded")


def test_paths_go_before_names(hub: Hub) -> None:
    """Catches a folder or a misspelt file taken for a data set of the hub."""
    Path("org/two").mkdir(parents=True)
    Path("org/two/here.jsonl").write_bytes(lines(7))
    assert Dataset.open("org/two").info.rows == 7
    with pytest.raises(InputError, match=r"^no such file: org/train.jsonl$"):
        Dataset.open("org/train.jsonl")
    assert hub.asked == []


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["rows.jsonl"], {"train": ["rows.jsonl"]}),
        (["train.csv", "train.parquet", "README.md"], {"train": ["train.parquet"]}),
        (["dev/0.parquet", "test_set.parquet"], {"validation": ["dev/0.parquet"], "test": ["test_set.parquet"]}),
        (["dataset_infos.json", ".hidden.json", "a.py"], None),
    ],
)
def test_splits_by_names_of_files(names: list[str], splits: dict[str, list[str]] | None) -> None:
    """Catches metadata read as rows, rows read twice from two formats, and splits of other tools unknown."""
    assert splits_of(names, ()) == ({} if splits is None else {"default": splits})


def test_a_run_keeps_the_revisions_that_it_began_with(hub: Hub, small_model: str) -> None:
    """Catches a run whose record does not say what was labelled by whom, and one that goes on with another state."""
    model = hub.add("models/org/judge", Path(small_model))
    data = hub.repositories["datasets/org/two"]
    commits = model.commit, data.commit
    options: dict[str, Any] = {"model": "org/judge", "input": "org/two:train", "out": "run"}
    options |= {"allow_low_mass": True, "quiet": True}
    run_label(LabelOptions(**options))
    record = json.loads(Path("run/run.json").read_text())
    assert record["options"]["model"] == f"org/judge@{commits[0]}"
    assert record["options"]["input"] == [f"org/two@{commits[1]}:train"]
    assert (record["scorer"]["model"], record["scorer"]["revision"]) == ("org/judge", commits[0])
    assert f"@{commits[1]}/" in record["input"]["path"]
    assert labelled_input(record, None).info.rows == 2

    model.files["new.json"], data.files["train.jsonl"] = b"{}", lines(9)
    for kind in ("models--org--judge", "datasets--org--two"):
        (hub.cache / kind / "refs" / "main").unlink()
    hub.asked.clear()
    assert run_label(LabelOptions(**options, offline=True)).ok == 2
    assert hub.asked == []
    with pytest.raises(InputError, match=r"^org/two: .*not in the cache"):
        run_label(LabelOptions(**options | {"out": "other"}, offline=True))


def test_a_comparison_keeps_the_revisions_that_it_began_with(hub: Hub, small_model: str) -> None:
    """Catches models that judge different states of an input, and costs of a model that was uploaded meanwhile."""
    model, data = hub.add("models/org/judge", Path(small_model)), hub.repositories["datasets/org/two"]
    data.files["train.jsonl"] = b"".join(
        json.dumps(row(id=f"r{i}", gold="ab"[i % 2])).encode() + b"\n" for i in range(2)
    )
    commits = model.commit, data.commit
    planned: list[str] = []

    def load(options: LabelOptions, weights: bool = True) -> Any:
        if not weights:
            planned.append(options.model)
        elif options.model == small_model:
            data.files["train.jsonl"], model.files["new.json"] = lines(9), b"{}"
            for kind in ("models--org--judge", "datasets--org--two"):
                (hub.cache / kind / "refs" / "main").unlink()
        return load_judge(options, weights)

    options: dict[str, Any] = {"model": ("org/judge", small_model), "input": ("org/two:train",), "out": "out"}
    for _ in range(2):
        found = compare(CompareOptions(**options, quiet=True), load)
        assert (found.pairs, found.failed) == (2, ())
    records = [json.loads(path.read_text())["options"] for path in sorted(Path("out").glob("*/run.json"))]
    assert {one["model"] for one in records} == {f"org/judge@{commits[0]}", small_model}
    assert [one["input"] for one in records] == [[f"org/two@{commits[1]}:train"]] * 2
    assert {*planned} == {f"org/judge@{commits[0]}", small_model}


def test_names_that_are_none() -> None:
    """Catches paths, URLs and odd names sent to the hub."""
    for text in ("one", "a/b/c", "../a", "./a/b", "a/..", "a--b/c", "-a/b", "a/b:c/d/e", "a/b.parquet", "a/b.jsonl.gz"):
        assert HubDataset.parse(text) is None, text
