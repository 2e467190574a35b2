"""Clocks, power and temperature of the GPU, sampled in a thread while a step runs."""

from __future__ import annotations

import importlib
import statistics
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.gpu.device import Device
from benchmarks.gpu.report import CLOCK_UNITS, first_line

# One value for each of CLOCK_UNITS, None where the GPU does not report it.
Sample = tuple[float | None, ...]
Read = Callable[[], Sample]
# Seconds between samples. nvidia-smi is a process that takes a CPU for a tenth of a second.
PERIOD, SLOW_PERIOD = 0.2, 2.0
_SMI_FIELDS = "clocks.sm,clocks.mem,power.draw,temperature.gpu"


class ClockSampler:
    """Samples of a GPU while steps run.

    Attributes:
        source: Where samples come from, or why there are none, in one line.
        samples: How many there have been.
    """

    def __init__(self, read: Read | None, source: str, period: float = PERIOD) -> None:
        self._read, self._period = read, period
        self.source = source
        self.samples = 0

    @contextmanager
    def during(self) -> Iterator[dict[str, list[float]]]:
        """Yields a dictionary that holds [minimum, median] by field when the context ends; empty without samples."""
        found: dict[str, list[float]] = {}
        if self._read is None:
            yield found
            return
        samples: list[Sample] = []
        ended = threading.Event()
        thread = threading.Thread(target=self._collect, args=(samples, ended), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join(timeout=5)
            found.update(_summary(list(samples)))

    def _collect(self, samples: list[Sample], ended: threading.Event) -> None:
        while self._read is not None:
            try:
                samples.append(self._read())
                self.samples += 1
            except Exception as error:  # whatever a driver's library raises; the steps go on without clocks
                self._read, self.source = None, f"{self.source} until it failed: {first_line(error)}"
            if ended.wait(self._period):
                return


def open_clocks(device: Device) -> ClockSampler:
    """pynvml where it works, else nvidia-smi, else a sampler without samples that says why."""
    if device.is_rehearsal:
        return ClockSampler(None, "unknown: no GPU")
    reasons = []
    sources = (("pynvml", _nvml, PERIOD), ("nvidia-smi", _smi, SLOW_PERIOD))
    for source, make, period in sources:
        try:
            read = make(device.uuid)
            read()
        except Exception as error:  # a missing package or program, a driver that refuses
            reasons.append(f"{source}: {first_line(error)}")
        else:
            return ClockSampler(read, source, period)
    return ClockSampler(None, f"unknown: {'; '.join(reasons)}")


def _summary(samples: list[Sample]) -> dict[str, list[float]]:
    columns = zip(CLOCK_UNITS, zip(*samples, strict=True), strict=True) if samples else ()
    known = {name: [value for value in values if value is not None] for name, values in columns}
    return {name: [min(values), statistics.median(values)] for name, values in known.items() if values}


def _nvml(uuid: str) -> Read:
    nvml = importlib.import_module("pynvml")
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid) if uuid else nvml.nvmlDeviceGetHandleByIndex(0)

    def reading(call: Callable[..., Any], *arguments: Any) -> float | None:
        try:
            return float(call(handle, *arguments))
        except nvml.NVMLError:  # this GPU does not report it
            return None

    def read() -> Sample:
        power = reading(nvml.nvmlDeviceGetPowerUsage)
        sample = (
            reading(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            reading(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
            None if power is None else power / 1e3,
            reading(nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU),
        )
        return _some(sample)

    return read


def _smi(uuid: str) -> Read:
    which = ["-i", uuid] if uuid else []
    command = ["nvidia-smi", *which, f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader,nounits"]

    def read() -> Sample:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        cells = done.stdout.strip().splitlines()[0].split(",")
        return _some(tuple(_value(cell) for cell in cells))

    return read


def _some(sample: Sample) -> Sample:
    if len(sample) != len(CLOCK_UNITS) or all(value is None for value in sample):
        raise ValueError("the GPU reports no clocks")
    return sample


def _value(cell: str) -> float | None:
    """nvidia-smi writes [N/A] for what it cannot read."""
    try:
        return float(cell)
    except ValueError:
        return None
