"""Traces of torch's profiler, read back: when the device was busy, and with which kernels."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.device import Call, Device

# Words in the names of kernels, in lower case; the first part with a word in the name is the kernel's. Triton's kernels
# bear the names of their functions, cuBLAS's begin with nvjet or hold gemm, torch's are called elementwise and so on.
PARTS: dict[str, tuple[str, ...]] = {
    "attention": ("attention", "flash", "fmha"),
    "label head": ("label_head",),
    "GEMM": ("gemm", "nvjet", "xmma", "cutlass", "splitk", "gemv", "cublas", "linear", "::mm"),
    "element-wise": (
        *("rms_norm", "rope", "rotate", "store_kv", "gated", "elementwise", "index", "gather", "catarray", "reduce"),
        *("fill", "aten::"),
    ),
    "copies": ("memcpy", "memset"),
}
OTHER = "other"


@dataclass(frozen=True)
class Interval:
    """One kernel or copy on the device. start, end: seconds."""

    name: str
    start: float
    end: float


def record(device: Device, call: Call, with_host: bool = False) -> dict[str, Any]:
    """A Chrome trace of `call`. with_host: with the operations of torch on the host, too."""
    activities = {*device.activities, *((ProfilerActivity.CPU,) if with_host else ())}
    device.synchronize()
    with profile(activities=sorted(activities, key=str)) as profiler:
        call()
        device.synchronize()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "trace.json"
        profiler.export_chrome_trace(str(path))
        trace: dict[str, Any] = json.loads(path.read_text(encoding="utf-8", errors="replace"))
    return trace


def timeline(device: Device, call: Call) -> list[Interval]:
    """What the device did during `call`."""
    try:
        return intervals(device, record(device, call))
    except RuntimeError:  # seen elsewhere: without the host's activity, none of the device's
        return intervals(device, record(device, call, with_host=True))


def intervals(device: Device, trace: dict[str, Any]) -> list[Interval]:
    """What the device did, in the order of starting. Raises RuntimeError where the profiler saw nothing."""
    found = [
        Interval(event["name"], event["ts"] / 1e6, (event["ts"] + event["dur"]) / 1e6)
        for event in trace["traceEvents"]
        if event.get("ph") == "X" and event.get("cat") in device.trace_kinds
    ]
    if not found:
        raise RuntimeError("the profiler saw no kernel; its trace holds no event of the device")
    return sorted(found, key=lambda interval: interval.start)


def busy_seconds(ordered: Iterable[Interval]) -> float:
    """Length of the union of intervals that are in the order of starting."""
    total, end = 0.0, float("-inf")
    for interval in ordered:
        total += max(0.0, interval.end - max(interval.start, end))
        end = max(end, interval.end)
    return total


def part_of(name: str) -> str:
    """The part of a forward pass that a kernel belongs to."""
    lower = name.lower()
    return next((part for part, words in PARTS.items() if any(word in lower for word in words)), OTHER)


def part_seconds(found: Sequence[Interval]) -> dict[str, float]:
    """Seconds by part. Of overlapping intervals the time counts for the one that started first."""
    seconds = dict.fromkeys((*PARTS, OTHER), 0.0)
    end = float("-inf")
    for interval in found:
        seconds[part_of(interval.name)] += max(0.0, interval.end - max(interval.start, end))
        end = max(end, interval.end)
    return seconds


def slowest(found: Sequence[Interval], count: int) -> list[tuple[str, int, float]]:
    """The names on which most time went, with their number of calls and their seconds."""
    by_name: dict[str, list[float]] = {}
    for interval in found:
        by_name.setdefault(interval.name, []).append(interval.end - interval.start)
    rows = [(name, len(taken), sum(taken)) for name, taken in by_name.items()]
    return sorted(rows, key=lambda row: -row[2])[:count]


def write_gzip(trace: dict[str, Any], path: Path, most_bytes: int) -> int:
    """Write `trace` for Chrome, and return the file's size. One that is too large loses its last events."""
    while True:
        try:
            with gzip.open(path, "wt", encoding="utf-8") as file:
                json.dump(trace, file)
        except OSError:
            path.unlink(missing_ok=True)  # half a trace fills the disk for the report
            raise
        size = path.stat().st_size
        if size <= most_bytes:
            return size
        events = trace["traceEvents"]
        trace = trace | {"traceEvents": events[: int(len(events) * 0.8 * most_bytes / size)]}
