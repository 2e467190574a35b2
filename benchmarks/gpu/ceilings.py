"""The rates that nothing on the device can beat, measured in this very run."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

from benchmarks.gpu.device import Device, Timing
from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.session import Ceilings, Session

TITLE = "Ceilings"
# Clocks sag within some hundred milliseconds of full load and recover in a pause.
BURST_WINDOW, SUSTAINED_WINDOW, PAUSE = 0.02, 0.2, 0.3
_FIELDS = {
    "copy": "copy_bytes_per_second",
    "matrix": "matrix_flops_per_second",
    "sustained_matrix": "sustained_matrix_flops_per_second",
    "upload": "upload_bytes_per_second",
}


def run(session: Session) -> Section:
    """The matrix rate is that of the fastest repetition of several products, before clocks sag: no share exceeds it."""
    device, table = session.device, Table("", ["ceiling", "how", "rate", "spread", "fastest repetition"])
    copy, copied = copy_timing(device, session.sizes.copy_bytes)
    how = f"device to device, {copied / 2e9:.1f} GB, read and written bytes"
    table.add("copy", how, f"{number(copied / copy.seconds / 1e12)} TB/s", percent(copy.spread), "-")
    upload, uploaded = upload_timing(device, session.sizes.upload_bytes)
    how = f"pinned memory of the host to the device, {uploaded / 1e9:.1f} GB"
    table.add("upload", how, f"{number(uploaded / upload.seconds / 1e9)} GB/s", percent(upload.spread), "-")
    rates = [_matrix_row(device, shape, BURST_WINDOW, table) for shape in session.sizes.matrices]
    best = session.sizes.matrices[max(range(len(rates)), key=lambda place: rates[place].fastest)]
    lasting = _matrix_row(device, best, SUSTAINED_WINDOW, table)
    session.matrix_shape = best
    found = Ceilings(
        copied / copy.seconds,
        max(rate.fastest for rate in (*rates, lasting)),
        lasting.median,
        uploaded / upload.seconds,
    )
    session.ceilings = found
    data: dict[str, object] = {key: getattr(found, name) for name, key in _FIELDS.items()}
    return Section([table], data=data | {"matrix_shape": list(best)})


def restore(session: Session) -> None:
    """Take the ceilings that an earlier worker of the same run measured."""
    data = session.report.data(TITLE)
    values = {name: data.get(key) for name, key in _FIELDS.items()}
    session.ceilings = Ceilings(**{name: float("nan") if value is None else value for name, value in values.items()})
    session.matrix_shape = tuple(data.get("matrix_shape", session.matrix_shape))


def copy_timing(device: Device, wanted_bytes: int) -> tuple[Timing, int]:
    """Of a copy of `wanted_bytes` or an eighth of the device's memory; and the bytes it reads and writes."""
    count = min(wanted_bytes, device.total_bytes // 8) // device.dtype.itemsize
    source = device.random(count)
    target = torch.empty_like(source)
    return device.time([lambda: target.copy_(source)]), 2 * count * device.dtype.itemsize


def upload_timing(device: Device, wanted_bytes: int) -> tuple[Timing, int]:
    """Of a copy from pinned memory of the host, and its bytes."""
    source = torch.ones(wanted_bytes, dtype=torch.uint8, pin_memory=not device.is_rehearsal)
    target = torch.empty(wanted_bytes, dtype=torch.uint8, device=device.torch_device)
    return device.time([lambda: target.copy_(source, non_blocking=True)]), wanted_bytes


def matrix_timing(device: Device, shape: tuple[int, int, int], window: float) -> tuple[Timing, int]:
    """Of rows times a transposed weight, as in a linear layer, and its operations. shape: rows, inputs, outputs."""
    rows, columns, out = shape
    x, weight = device.random(rows, columns), device.random(out, columns)
    target = torch.empty(rows, out, dtype=device.dtype, device=device.torch_device)
    window = 1e-4 if device.is_rehearsal else window
    return device.time([lambda: torch.mm(x, weight.T, out=target)], window), 2 * rows * columns * out


def matrix_rate(session: Session) -> float:
    """FLOP/s right now."""
    timing, operations = matrix_timing(session.device, session.matrix_shape, BURST_WINDOW)
    return operations / timing.seconds


class _Rates(NamedTuple):
    """FLOP/s of a product: the median of the repetitions, and the fastest one."""

    median: float
    fastest: float


def _matrix_row(device: Device, shape: tuple[int, int, int], window: float, table: Table) -> _Rates:
    device.release()
    time.sleep(0 if device.is_rehearsal else PAUSE)
    timing, operations = matrix_timing(device, shape, window)
    rates = _Rates(operations / timing.seconds, operations / timing.fastest)
    text = " x ".join(f"{size:,}" for size in shape)
    how = f"torch.mm, {text}, {device.dtype_name}, random numbers, repetitions of {window:g} s"
    median, fastest = (f"{number(rate / 1e12)} TFLOP/s" for rate in rates)
    table.add("matrix", how, median, percent(timing.spread), fastest)
    return rates
