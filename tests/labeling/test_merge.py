"""Shards on any machines become the bytes of one, and the order of the input never reaches a label."""

from __future__ import annotations

import gzip
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError, OutputError
from preftree.labeling import cli
from preftree.labeling.commands.table import REJECTED_ROWS
from preftree.labeling.data.selection import rows_of
from preftree.labeling.runs import job
from preftree.labeling.runs.shards import merge
from tests.labeling.fakes import FakeScorer, open_fake_method, row, write_rows
from tests.labeling.rundir.runs import labels, record, run

parquet = pytest.importorskip("pyarrow.parquet")

ROWS = 25


@pytest.fixture
def rows() -> list[Any]:
    """An id comes twice, in different shards; one row cannot be read, and one cannot be asked."""
    rows: list[Any] = [row(id=f"id {n}", response_a=f"this {n}", gold="ab"[n % 2], note=n) for n in range(ROWS)]
    rows[3] = {**rows[3], "prompt": "TOO LONG"}
    rows[20] = {**rows[20], "id": "id 1"}
    rows[22] = b"bad"
    return rows


@pytest.fixture
def source(rows: list[Any], tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in.jsonl", rows)


@pytest.fixture(autouse=True)
def _fake_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "open_method", open_fake_method)


def shards_of(source: Path, out: Path, number: int, **changes: Any) -> list[str]:
    for index in range(1, number + 1):
        run(source, out / f"shard {index}", FakeScorer(window_tokens=100), shard=f"{index}/{number}", **changes)
    return [str(out / f"shard {index}") for index in range(1, number + 1)]


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_shards_become_one_run(source: Path, tmp_path: Path, number: int) -> None:
    """Catches rows lost or repeated where shards meet, and an id that each shard takes for the first of its kind."""
    run(source, tmp_path / "whole")
    parts = shards_of(source, tmp_path, number)
    assert cli.main(["merge", *reversed(parts), "--out", str(tmp_path / "merged"), "--quiet"]) == REJECTED_ROWS
    assert labels(tmp_path / "merged") == labels(tmp_path / "whole")
    one, other = record(tmp_path / "whole"), record(tmp_path / "merged")
    assert other["quality"] == one["quality"]
    assert {name: other["totals"][name] for name in ("ok", "rejected", "prompt_tokens")} == {
        name: one["totals"][name] for name in ("ok", "rejected", "prompt_tokens")
    }
    scorer = FakeScorer()
    run(source, tmp_path / "merged", scorer)
    assert scorer.calls == [], "the joined run is a run like any other"


def test_limits_are_of_the_whole(source: Path, tmp_path: Path) -> None:
    """Catches --limit taken for that of each shard."""
    run(source, tmp_path / "whole", limit=11)
    parts = shards_of(source, tmp_path, 3, limit=11)
    assert cli.main(["merge", *parts, "--out", str(tmp_path / "merged"), "--quiet"]) == REJECTED_ROWS
    assert labels(tmp_path / "merged") == labels(tmp_path / "whole")


def test_order_and_packing_of_the_input_do_not_reach_labels(rows: list[Any], tmp_path: Path) -> None:
    """Catches a label that depends on its neighbours, its place, its shard or its file's format."""
    good = [entry for n, entry in enumerate(rows) if n not in (3, 20, 22)]
    shuffled = random.Random(3).sample(good, len(good))
    plain = write_rows(tmp_path / "plain.jsonl", good)
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(write_rows(tmp_path / "shuffled.jsonl", shuffled).read_bytes()))
    import pyarrow as pa

    parquet.write_table(pa.Table.from_pylist(shuffled), tmp_path / "table.parquet")
    run(plain, tmp_path / "plain")
    run(packed, tmp_path / "packed", FakeScorer(window_tokens=100))
    parts = shards_of(tmp_path / "table.parquet", tmp_path, 3)
    assert cli.main(["merge", *parts, "--out", str(tmp_path / "table"), "--quiet"]) == 0
    by_id = [
        {entry["id"]: entry for entry in parquet.read_table(tmp_path / name / "labels.parquet").to_pylist()}
        for name in ("plain", "packed", "table")
    ]
    assert by_id[0] == by_id[1] == by_id[2]
    assert len(by_id[0]) == len(good)


def test_what_cannot_be_joined(source: Path, tmp_path: Path) -> None:
    """Catches a joined run with holes or with another run's labels in it, and a message that leaves one guessing."""
    one, two, three = shards_of(source, tmp_path, 3)
    [whole] = shards_of(source, tmp_path / "of one", 1)
    run(source, tmp_path / "plain")
    run(source, tmp_path / "limited", shard="3/3", limit=20)
    unfinished = shutil.copytree(three, tmp_path / "unfinished")
    (unfinished / "run.json").write_text(json.dumps(record(unfinished) | {"state": "running"}))
    damaged = shutil.copytree(three, tmp_path / "damaged")
    for part in (damaged / "answers").iterdir():
        part.write_bytes(part.read_bytes()[:-1])
    cases: list[tuple[list[str | Path], str]] = [
        ([one, two], "missing shards: 3/3"),
        ([one, three, two, shutil.copytree(two, tmp_path / "copy")], "shard 2 and .*copy are both shard 2/3"),
        ([one, two, str(tmp_path / "plain")], "plain is no shard"),
        ([one, two, whole], "one of 1 shards, and .*shard 1 one of 3"),
        ([one, two, str(tmp_path / "limited")], "not of the same run as .*: options.limit was null and is 20 now"),
        ([one, two, str(unfinished)], "unfinished is not finished"),
        ([one, two, str(damaged)], "damaged or missing"),
        ([one, two, str(tmp_path / "none")], "no such file"),
    ]
    for parts, said in cases:
        with pytest.raises(OutputError, match=said) as error:
            merge([str(part) for part in parts], str(tmp_path / "merged"), None, False, True)
        assert len(str(error.value).splitlines()) == 1
        assert not (tmp_path / "merged").exists()
    write_rows(source, [row()])
    with pytest.raises(InputError, match="is not the file that was labelled; name that one with --input"):
        merge([one, two, three], str(tmp_path / "merged"), None, False, True)


def test_a_shard_is_not_taken_for_the_whole(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a third of the data exported as all of it."""
    run(source, tmp_path / "part", shard="1/3")
    assert cli.main(["status", str(tmp_path / "part")]) == 0
    assert "8 of 8 (100.0%), 1 of them rejected" in capsys.readouterr().out
    command = ["export", str(tmp_path / "part"), "--to", "kto", "--out", str(tmp_path / "x.jsonl")]
    assert cli.main(command) == 1
    assert "part is shard 1/3; join it with the others first" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "01/3", "a/b", "1 / 3"])
def test_shards_that_are_none(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a typing error that labels nothing, or everything."""
    assert cli.main(["label", "in.jsonl", "--out", "x", f"--shard={text}"]) == 2
    assert "--shard must be I/N" in re.sub(r"\s+", " ", capsys.readouterr().err)


def test_shards_cover_all_rows_once() -> None:
    """Catches rows between two shards, and an empty shard that is only found out when the model is loaded."""
    for total in (1, 5, 12, 100):
        for number in range(1, min(total, 12) + 1):
            parts = [rows_of(total, shard=f"{index}/{number}") for index in range(1, number + 1)]
            assert [n for part in parts for n in part] == list(range(total))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(InputError, match="--shard 1/3 has no rows: there are 2 in all; use fewer shards"):
        rows_of(2, shard="1/3")
