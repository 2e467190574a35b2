"""The benchmark of `preftree plan`: what its rows are, and what it says."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import planning
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.types import Pair


def test_dialogues_are_rows(tmp_path: Path) -> None:
    """Catches dialogues that are not recognised, that are alike, or that change from run to run."""
    paths = [tmp_path / name for name in ("one.jsonl", "two.jsonl")]
    for path in paths:
        planning.write_dialogues(path, 40)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    rows = list(Dataset.open(str(paths[0])).read())
    assert len(rows) == 40
    assert all(isinstance(row, Pair) for row in rows)
    answers = [text for row in rows if isinstance(row, Pair) for text in (row.response_a, row.response_b)]
    assert len(set(answers)) == 80


def test_the_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches threads that change a plan, and medians of the wrong runs."""
    monkeypatch.setattr(sys, "argv", ["planning", "--rows", "20", "--rounds", "1"])
    planning.main()
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1])
    assert lines[0].startswith(f"20 rows, {result['prompt_tokens']:,} prompt tokens, ")
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == ["threads", "one thread"]
    for way in planning.WAYS:
        assert result[way]["all_seconds"] == [result[way]["seconds"]]
        assert result[way]["processor_seconds"] > 0
