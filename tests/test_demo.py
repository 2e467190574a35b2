"""What `make demo` says at its end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import demo
from benchmarks.random_model import small_config, write_random_model
from benchmarks.workloads import Workload, load
from preftree.labeling.judge.judge import Judge

RECORD = {"totals": {"prompt_tokens": 4000, "unique_tokens": 3000}}


def test_three_lines_say_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a comparison with something else, a ratio upside down, and a toy that passes for a judge."""
    calls: list[tuple[int, bool]] = []
    with Judge.load(str(write_random_model(tmp_path, small_config(num_layers=2, hidden_size=64)))) as judge:
        workload = load("2", demo.EXAMPLES, 2, judge)
        score = judge.engine.score

        def counted(prompts: Any, labels: Any, *, prefix_cache: bool = True) -> Any:
            calls.append((len(prompts), prefix_cache))
            return score(prompts, labels, prefix_cache=prefix_cache)

        monkeypatch.setattr(judge.engine, "score", counted)
        tokens, measured, toy = demo.demo_lines(RECORD, judge, workload)
    assert calls == [(1, False), (4, True), *[(1, False)] * 4]
    assert tokens == "tokens  1,000 of 4,000 prompt tokens were shared (25%)"
    found = re.fullmatch(
        r"time    2 pairs in ([\d.]+) s; this engine, one prompt a call: ([\d.]+) s \(([\d.]+) times\)", measured
    )
    assert found is not None
    assert "a toy" in toy
    assert all(len(line) <= 80 for line in (tokens, measured, toy))


def test_the_ratio_is_that_of_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "seconds", lambda judge, workload: (2.0, 5.0))
    judge: Any = None
    lines = demo.demo_lines(RECORD, judge, Workload("2", (), 0.0))
    assert lines[1] == "time    0 pairs in 2.00 s; this engine, one prompt a call: 5.00 s (2.5 times)"


def test_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback at the end of a demo."""
    assert demo.main([str(tmp_path)]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"python -m benchmarks.demo: {tmp_path}/run.json: no such file")


def test_the_makefile_runs_all_of_the_demo() -> None:
    """Catches a demo without its page, or without the three lines."""
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^demo:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    commands = [line.split("$(BIN)/")[1].split(" $(DEMO_OUT)")[0] for line in recipe.splitlines()]
    assert commands == ["preftree label examples/pairs.jsonl --out", "preftree report", "python -m benchmarks.demo"]
