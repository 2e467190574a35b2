"""Figures of the evidence run for GPUs: times, traces, targets, and the report that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.gpu import host, trace
from benchmarks.gpu.dense import DenseAttention
from benchmarks.gpu.device import Gpu, Rehearsal
from benchmarks.gpu.report import Report, Section, StepRecord, Table
from benchmarks.gpu.session import Ceilings
from benchmarks.gpu.targets import TARGETS, Measured, below, summary_rows, verdict


def test_what_only_cuda_has_is_there() -> None:
    """torch has these names in every build. Would catch a typing error that no rehearsal reaches."""
    for name in ("Event", "_sleep", "current_device", "empty_cache", "get_device_properties", "is_available"):
        assert callable(getattr(torch.cuda, name)), name
    for name in ("max_memory_allocated", "memory_allocated", "reset_peak_memory_stats", "synchronize"):
        assert callable(getattr(torch.cuda, name)), name


def test_bursts_are_timed_between_events_behind_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would catch an event before the pause, or a time that is not that of one call."""
    stream: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            stream.append("event")

        def synchronize(self) -> None:
            stream.append("wait")

        def elapsed_time(self, end: Event) -> float:
            return 6.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: stream.append("pause"))
    seconds = Gpu._burst(object.__new__(Gpu), [lambda: stream.append("call")] * 2, rounds=3, launching=1e-3)
    assert seconds == pytest.approx(6e-3)
    assert stream == ["pause", "event", *["call"] * 6, "event", "wait"]


def test_a_timing_is_that_of_one_call() -> None:
    class Clock(Rehearsal):
        def _burst(self, calls: Any, rounds: int, launching: float) -> float:
            return 0.002 * rounds * len(calls)

    device = Clock()
    device.most_calls = 100
    timing = device.time([lambda: None] * 4, window=0.05)
    assert (timing.seconds, timing.spread) == (pytest.approx(0.002), pytest.approx(0))


def test_floors_and_shares() -> None:
    ceilings = Ceilings(copy=4e12, matrix=8e14)
    assert ceilings.floor(4e9) == pytest.approx(1e-3)
    assert ceilings.floor(4e9, 8e12) == pytest.approx(1e-2)
    assert np.isnan(Ceilings().floor(4e9))


def test_verdicts() -> None:
    assert verdict(TARGETS["attention"], 0.6) == "reached"
    assert verdict(TARGETS["attention"], 0.45) == "missed by 25%"
    assert verdict(TARGETS["idle"], 0.1) == "missed by 100%"
    assert verdict(TARGETS["bits"], 3.0) == "missed by 3"
    assert verdict(TARGETS["bits"], None) == "not measured"
    found = [
        Measured("attention", "one", 0.7),
        Measured("attention", "two", 0.3, roofline=0.21),
        Measured("idle", "all", float("nan")),
    ]
    rows = {row[0]: row[1:] for row in summary_rows(found)}
    told = ["at least 0.6", "0.3", "two", "missed by 50%", "21.0%", "1 of 2"]
    assert rows[TARGETS["attention"].text] == told
    assert rows[TARGETS["idle"].text] == ["at most 0.05", "-", "-", "not measured", "-", "0 of 1"]
    assert below(found) == [f"{TARGETS['attention'].text}: 0.3, wanted at least 0.6 (two)"]


def test_a_report_survives_nan_and_infinity(tmp_path: Path) -> None:
    """JSON has neither; a report that cannot be read back would stop the next worker."""
    table = Table("rates", ["a|b", "c"])
    table.add("1|2", 3)
    section = Section([table], data={"rate": float("nan")}, measured=[Measured("idle", "x", float("inf"))])
    Report(tmp_path, False, steps=[StepRecord("one", "done", section=section)]).save()
    report = Report.load(tmp_path)
    assert report.data("one") == {"rate": None}
    assert report.steps[0].section.measured == [Measured("idle", "x", None)]
    assert "| 1/2 | 3 |" in report.markdown()


def test_time_by_part_from_kernel_names() -> None:
    """Names as they come out of Triton, cuBLAS and torch."""
    assert trace.part_of("tree_attention_kernel") == "attention"
    assert trace.part_of("nvjet_tst_128x256_64x4_1x2_h_bz_coopA_TNT") == "GEMM"
    assert trace.part_of("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64") == "GEMM"
    assert trace.part_of("void cublasLt::splitKreduce_kernel<32, 16, int, float>") == "GEMM"
    assert trace.part_of("label_head_split_kernel") == trace.part_of("label_head_logit_kernel") == "label head"
    assert trace.part_of("rope_kernel") == trace.part_of("add_rms_norm_kernel") == "element-wise"
    assert trace.part_of("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add>") == (
        "element-wise"
    )
    assert trace.part_of("Memcpy HtoD (Pinned -> Device)") == "copies"
    overlapping = [trace.Interval("gemm", 0, 3), trace.Interval("rope_kernel", 1, 2), trace.Interval("gemm", 5, 6)]
    assert trace.busy_seconds(overlapping) == 4
    assert trace.part_seconds(overlapping)["GEMM"] == 4
    assert trace.slowest(overlapping, 1) == [("gemm", 2, 4)]


def test_planning_that_has_moved_is_named_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = ("preftree.engine.scoring.runner", "no_such_planner")
    monkeypatch.setattr(host, "PLANNING", (*host.PLANNING, moved, ("preftree.engine.no_such_module", "x")))
    with host.host_clock() as clock:
        pass
    assert clock.missing == ["preftree.engine.scoring.runner.no_such_planner", "preftree.engine.no_such_module.x"]


def test_only_the_devices_own_work_counts_as_busy() -> None:
    """Ranges of the host are drawn beside the kernels, too, and would hide every idle moment."""
    gpu = object.__new__(Gpu)
    gpu.trace_kinds = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
    kinds = ("cuda_runtime", "gpu_user_annotation", "user_annotation", "cpu_op", "gpu_memcpy", "kernel")
    events: list[dict[str, Any]] = [
        {"ph": "X", "cat": kind, "name": kind, "ts": 1e6 + 10.0 * place, "dur": 5.0} for place, kind in enumerate(kinds)
    ]
    found = trace.intervals(gpu, {"traceEvents": [*reversed(events), {"ph": "M", "name": "process_name"}]})
    assert [interval.name for interval in found] == ["gpu_memcpy", "kernel"]
    assert trace.busy_seconds(found) == pytest.approx(10e-6)
    with pytest.raises(RuntimeError, match="saw no kernel"):
        trace.intervals(gpu, {"traceEvents": events[:3]})


def test_dense_attention_without_grouped_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the backend refuses grouped heads, K and V are repeated, and the report says so."""
    real, grouped = torch.nn.functional.scaled_dot_product_attention, []

    def refusing(*arguments: Any, enable_gqa: bool, **named: Any) -> torch.Tensor:
        grouped.append(enable_gqa)
        if enable_gqa:
            raise RuntimeError("No available kernel. Aborting execution.")
        return real(*arguments, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", refusing)
    dense = DenseAttention(Rehearsal(), heads=4, kv_heads=2, size=8, window=1e-4)
    assert dense.seconds(2, 16) > 0
    assert dense.seconds(2, 16) > 0
    assert grouped.count(True) == 1
    (remark,) = dense.remarks
    assert "No available kernel" in remark


def test_a_trace_that_is_too_large_is_cut(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    events = [{"ph": "X", "name": random.bytes(50).hex()} for _ in range(200)]
    size = trace.write_gzip({"traceEvents": events}, tmp_path / "t.gz", most_bytes=6000)
    assert 1000 < size <= 6000
