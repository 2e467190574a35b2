"""The two rates that nothing on the device can beat, measured in this very run."""

from __future__ import annotations

import torch

from benchmarks.gpu.device import Device, Timing
from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.session import Ceilings, Session

TITLE = "Ceilings"
# A product's clocks sag within some hundred milliseconds of full load; one window of the burst is longer than that.
MATRIX_WINDOW = 0.1


def run(session: Session) -> Section:
    copy, copied = copy_timing(session.device, session.sizes.copy_bytes)
    matrix, operations = matrix_timing(session.device, session.sizes.matrix)
    session.ceilings = Ceilings(copied / copy.seconds, operations / matrix.seconds)
    table = Table("", ["ceiling", "how", "rate", "spread"])
    table.add(
        "copy",
        f"device to device, {copied / 2e9:.1f} GB, read and written bytes",
        f"{number(session.ceilings.copy / 1e12)} TB/s",
        percent(copy.spread),
    )
    size = session.sizes.matrix
    table.add(
        "matrix",
        f"torch.mm, {size}^3, {session.device.dtype_name}, random numbers",
        f"{number(session.ceilings.matrix / 1e12)} TFLOP/s",
        percent(matrix.spread),
    )
    return Section(
        [table],
        data={"copy_bytes_per_second": session.ceilings.copy, "matrix_flops_per_second": session.ceilings.matrix},
    )


def restored(session: Session) -> Ceilings:
    """Those that an earlier worker of the same run measured."""
    data = session.report.data(TITLE)
    found = (data.get("copy_bytes_per_second"), data.get("matrix_flops_per_second"))
    copy, matrix = (float("nan") if value is None else float(value) for value in found)
    return Ceilings(copy, matrix)


def copy_timing(device: Device, wanted_bytes: int) -> tuple[Timing, int]:
    """Of a copy of `wanted_bytes` or an eighth of the device's memory; and the bytes it reads and writes."""
    count = min(wanted_bytes, device.total_bytes // 8) // device.dtype.itemsize
    source = device.random(count)
    target = torch.empty_like(source)
    return device.time([lambda: target.copy_(source)]), 2 * count * device.dtype.itemsize


def matrix_timing(device: Device, size: int) -> tuple[Timing, int]:
    """Of a square product, and its operations."""
    left, right = device.random(size, size), device.random(size, size)
    out = torch.empty_like(left)
    window = 1e-4 if device.is_rehearsal else MATRIX_WINDOW
    return device.time([lambda: torch.mm(left, right, out=out)], window), 2 * size**3


def matrix_rate(session: Session) -> float:
    """FLOP/s right now."""
    timing, operations = matrix_timing(session.device, session.sizes.matrix)
    return operations / timing.seconds
