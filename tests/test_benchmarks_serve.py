"""The benchmark of the server counts what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import serve
from preftree.engine.errors import InputError
from tests.labeling.serving.fakes import FakeJudge, serving


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    pairs = [{"prompt": f"Question {n}?", "response_a": f"yes {n}", "response_b": f"no {n}"} for n in range(9)]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return path


def test_eight_completions_of_eight_prompts(data: Path, tmp_path: Path) -> None:
    """Catches a load that shares more than it says."""
    bodies = serve.load_bodies(data)
    assert len({(body["prompt"], body["response"]) for body in bodies}) == len(bodies) == 64
    assert len({body["prompt"] for body in bodies}) == 8
    few = tmp_path / "few.jsonl"
    few.write_text("".join(data.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(InputError, match="has 3 pairs; 8 are needed"):
        serve.load_bodies(few)


def test_figures_of_a_load(data: Path) -> None:
    """Catches a first round that is counted, and figures that are divided by another number of requests."""
    bodies, judge = serve.load_bodies(data)[:4], FakeJudge()
    with serving(judge, window=20_000, batch_requests=4, deadline=30) as client:
        prompts_before = len(judge.calls)
        found = serve.measure(client.address, bodies, rounds=2)
    assert len(judge.calls) - prompts_before == 3
    assert len(found.seconds) == 2
    assert len(found.latencies) == 8
    assert found.batches == 2
    assert [type(reward) for reward in found.rewards] == [float] * 4
    measured = serve.Measured([2.0, 4.0], [1.0] * 8, 100.0, 25.0, 2.0, [0.0] * 4)
    assert measured.record == {
        "requests_per_second": 4 / 3,
        "unique_to_prompt_tokens": 0.25,
        "p50_seconds": 1.0,
        "p99_seconds": 1.0,
        "requests_per_batch": 4.0,
    }
