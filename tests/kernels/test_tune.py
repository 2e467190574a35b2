"""The tuning command: candidates that keep the rules, a sound choice, text that is the table, checks that find faults.

No GPU is asked: times are made up, and the checks run in Triton's interpreter.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from benchmarks.kernels import candidates, tune_benches
from benchmarks.kernels.candidates import (
    SMALLEST_SHARED,
    attention_candidates,
    choose,
    head_candidates,
    head_text,
    report,
    table_text,
)
from benchmarks.kernels.tune_benches import AttentionBench, HeadBench, Workload
from preftree.kernels import attention, label_head, launch
from preftree.kernels.label_head import HeadSettings
from preftree.kernels.launch import AttentionSettings, TileShapes
from preftree.kernels.tiles import PathTiles
from tests.kernels.on_device import DEVICE
from tests.processes import run_python

PRESENT, FAST, BAD, SLOW = (TileShapes(((16, 1), (64, 4)), block_n, 3) for block_n in (64, 32, 128, 16))


@pytest.mark.parametrize("table", launch.TENSOR_CORES)
@pytest.mark.parametrize("size", launch.HEAD_SIZES)
def test_candidates_keep_the_rules(table: int, size: int) -> None:
    """Heights of one entry share all that a sum depends on: key block, stages, and rows to a warp."""
    found = attention_candidates(table, size)
    assert found[0] == launch.TENSOR_CORES[table][size]
    assert len(found) == len(set(found)) > 10
    assert {shapes.num_stages for shapes in found} == {2, 3, 4, 5}
    for shapes in found:
        assert [height for height, _ in shapes.heights] == sorted(height for height, _ in shapes.heights)
        assert len(shapes.heights) == 1 or {rows // warps for rows, warps in shapes.heights} == {16}
        assert table == 80 or all(rows >= 64 for rows, _ in shapes.heights), "no other instructions on sm_90"


def test_candidates_of_the_label_head_fit_every_gpu() -> None:
    present = label_head.SETTINGS[torch.bfloat16]
    found = head_candidates(present)
    assert found[0] == present
    assert len(found) == len(set(found)) > 10
    assert {one.split for one in found} > {512}
    assert {one.num_stages for one in found} == {2, 3, 4, 5}
    for one in found:
        assert one.split % one.block_vocab == 0
        assert 2 * (one.block_rows + one.block_vocab) * one.block_hidden * one.num_stages <= SMALLEST_SHARED


class FakeBench:
    """Seconds and problems as they are written down; counts what is asked."""

    def __init__(self, seconds: dict[TileShapes, float], problems: dict[TileShapes, str]) -> None:
        self._seconds = seconds
        self._problems = problems
        self.timed: list[TileShapes] = []

    def problem(self, candidate: TileShapes) -> str | None:
        return self._problems.get(candidate)

    def seconds(self, candidate: TileShapes) -> float:
        self.timed.append(candidate)
        return self._seconds[candidate]


def test_the_fastest_that_works_is_chosen() -> None:
    bench = FakeBench({PRESENT: 0.010, FAST: 0.008, BAD: 0.001, SLOW: 0.020}, {BAD: "tiles of 64: spills 8 bytes"})
    choice = choose([PRESENT, FAST, BAD, SLOW], bench, lambda: True)
    assert choice.chosen == FAST
    assert bench.timed == [PRESENT, FAST, SLOW]
    lines = report("head size 64", PRESENT, choice)
    assert lines[0] == "head size 64: 3 measured, 1 skipped, 0 not tried"
    assert any("spills 8 bytes" in line for line in lines)
    assert lines[-1].startswith("  chosen, 1.25 times as fast: TileShapes(")


def test_a_small_gain_is_not_worth_other_bits() -> None:
    choice = choose([PRESENT, FAST], FakeBench({PRESENT: 0.0100, FAST: 0.0098}, {}), lambda: True)
    assert choice.chosen == PRESENT
    assert report("x", PRESENT, choice)[-1] == "  the present settings stay"


def test_the_time_limit_leaves_the_rest_untried() -> None:
    """At least one candidate is measured, so there is always an answer."""
    choice = choose([PRESENT, FAST], FakeBench({PRESENT: 0.010, FAST: 0.001}, {}), lambda: False)
    assert (choice.chosen, choice.untried) == (PRESENT, 1)


def test_present_settings_that_do_not_work() -> None:
    choice = choose([PRESENT, FAST], FakeBench({FAST: 0.1}, {PRESENT: "x"}), lambda: True)
    assert choice.chosen == FAST
    assert "the present settings do not work" in report("x", PRESENT, choice)[-1]
    nothing = choose([PRESENT], FakeBench({}, {PRESENT: "x"}), lambda: True)
    assert nothing.chosen is None
    assert "nothing works here" in report("x", PRESENT, nothing)[-1]


def test_the_text_is_the_table() -> None:
    """What is printed can be pasted: it evaluates to the same settings; the present ones stand there word by word."""
    changed = {table: dict(entries) for table, entries in launch.TENSOR_CORES.items()}
    changed[90][64] = TileShapes(((128, 4),), block_n=128, num_stages=2)
    for tables in (changed, launch.TENSOR_CORES):
        names: dict[str, object] = {"TileShapes": TileShapes}
        exec(table_text(tables), names)
        assert names["TENSOR_CORES"] == tables
    assert table_text(launch.TENSOR_CORES) in inspect.getsource(launch)
    settings = label_head.SETTINGS[torch.bfloat16]
    names = {"HeadSettings": HeadSettings}
    exec(head_text(replace(settings, num_warps=4)), names)
    assert names["_SIXTEEN_BIT"] == replace(settings, num_warps=4)
    assert head_text(settings) in inspect.getsource(label_head)


def once(call: Callable[[], object]) -> float:
    call()
    return 1.0


TINY = Workload(prompts=1, shared=20, own=20, order=8, ending=2)
HEIGHTS = TileShapes(((16, 1), (32, 2)), block_n=32, num_stages=2)


@pytest.fixture
def attention_bench() -> AttentionBench:
    sound: dict[AttentionSettings, str | None] = dict.fromkeys(HEIGHTS.all_settings)
    spilling = TileShapes(((16, 8),), block_n=32, num_stages=2).all_settings
    compiled = sound | dict.fromkeys(spilling, "spills 8 bytes a thread")
    return AttentionBench(DEVICE, torch.float16, 64, compiled, once, heads=4, kv_heads=2, check=TINY, work=TINY)


def test_attention_is_checked(attention_bench: AttentionBench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert attention_bench.problem(HEIGHTS) is None
    assert attention_bench.seconds(HEIGHTS) == tune_benches.LAYERS
    assert attention_bench.problem(replace(HEIGHTS, heights=((16, 8),))) == "tiles of 16: spills 8 bytes a thread"
    assert attention_bench.problem(replace(HEIGHTS, block_n=64)) == "tiles of 16: was not compiled in time"

    def variant(
        queries: torch.Tensor, kv: torch.Tensor, tiles: PathTiles, out: torch.Tensor, settings: AttentionSettings
    ) -> None:
        """Low tiles with a key block of their own."""
        changed = replace(settings, block_n=16) if settings.block_m == 16 else settings
        attention.launch_tree_attention(queries, kv, tiles, out, changed)

    monkeypatch.setattr(tune_benches, "launch_tree_attention", variant)
    assert str(attention_bench.problem(HEIGHTS)).endswith("other bits")

    def wrong(queries: torch.Tensor, kv: torch.Tensor, tiles: object, out: torch.Tensor, settings: object) -> None:
        out.copy_(queries)

    monkeypatch.setattr(tune_benches, "launch_tree_attention", wrong)
    assert "against float64" in str(attention_bench.problem(HEIGHTS))


def test_the_label_head_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    good = HeadSettings(split=512, block_rows=64, block_vocab=128, block_hidden=64, num_warps=4, num_stages=2)
    spilling = replace(good, num_warps=1)
    compiled = {good: None, spilling: "spills 8 bytes a thread"}
    bench = HeadBench(DEVICE, torch.float16, compiled, once, shape=(16, 600, 64))
    assert bench.problem(good) is None
    assert bench.seconds(good) == 1.0
    assert bench.problem(spilling) == "spills 8 bytes a thread"
    assert bench.problem(replace(good, split=1024)) == "was not compiled in time"

    def variant(rows: torch.Tensor, weight: torch.Tensor, settings: HeadSettings) -> torch.Tensor:
        return (rows.float() @ weight.float().T).logsumexp(-1) + len(rows) * 1e-6

    monkeypatch.setattr(tune_benches, "log_normaliser", variant)
    assert "other bits" in str(bench.problem(good))
    monkeypatch.setattr(tune_benches, "log_normaliser", lambda rows, weight, settings: rows.float().sum(1))
    assert "against float64" in str(bench.problem(good))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure on")
def test_without_a_gpu_it_says_so_in_one_line() -> None:
    result = run_python("-m", "benchmarks.kernels.tune")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == "tune: there is no CUDA device to measure on\n"


def test_the_rules_are_those_of_the_table() -> None:
    assert set(candidates.HEIGHTS) == set(launch.TENSOR_CORES)
