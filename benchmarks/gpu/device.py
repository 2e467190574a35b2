"""The device under measurement: timers, memory, synchronisation. What only CUDA has is called here and nowhere else."""

from __future__ import annotations

import gc
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch.profiler import ProfilerActivity

from preftree.engine.errors import InputError
from preftree.kernels.ops import implementation

Call = Callable[[], Any]
# Assumed by the pause that lets the host run ahead; a slower clock pauses longer.
CYCLES_PER_SECOND = 2e9
LONGEST_PAUSE = 0.02


@dataclass(frozen=True)
class Timing:
    """Of one call, over several repetitions.

    Attributes:
        seconds: The median.
        spread: The slowest repetition over the fastest, minus 1.
        fastest: Seconds in the fastest repetition.
    """

    seconds: float
    spread: float
    fastest: float


class Device:
    """What a measurement asks of a device. cache_bytes: of its last cache. trace_kinds: categories in a trace of
    torch's profiler that are the device's work."""

    name: str
    torch_device: torch.device
    dtype: torch.dtype
    is_rehearsal: bool
    total_bytes: int
    cache_bytes: int
    activities: tuple[ProfilerActivity, ...]
    trace_kinds: frozenset[str]
    repeats: int
    most_calls: int

    @property
    def ops(self) -> ModuleType:
        """The kernels; in a rehearsal, plain torch, which takes every type."""
        return implementation(self.torch_device, torch.float32)

    @property
    def uuid(self) -> str:
        """By which a driver's tools know the device, empty where it is not known."""
        return ""

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def facts(self) -> dict[str, str]:
        """What a number must be read with."""
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait until the device has done everything."""

    def allocated_bytes(self) -> int:
        """Memory of live tensors, 0 where nobody counts."""
        return 0

    def peak_bytes(self) -> int:
        """The most that `allocated_bytes` was since `reset_peak`."""
        return 0

    def reset_peak(self) -> None:
        """Forget earlier peaks."""

    def release(self) -> None:
        """Give back what earlier work left."""

    def random(self, *shape: int) -> torch.Tensor:
        """Normal numbers: zeros would run faster than data."""
        return torch.randn(*shape, dtype=self.dtype, device=self.torch_device)

    def wall(self, call: Call) -> float:
        """Seconds of one call, host and device."""
        self.synchronize()
        started = time.perf_counter()
        call()
        self.synchronize()
        return time.perf_counter() - started

    @torch.no_grad()
    def time(self, calls: Sequence[Call], window: float = 0.02) -> Timing:
        """Device seconds of one of `calls`, which are made in turns so that no input stays in the cache.

        window: seconds of a repetition. The first calls compile and warm up, and are not counted.
        """
        for call in calls:
            call()
        self.synchronize()
        started = time.perf_counter()
        for call in calls:
            call()
        launching = time.perf_counter() - started
        once = self._burst(calls, 1, launching)
        rounds = max(1, min(int(window / max(once, 1e-9)), self.most_calls // len(calls)))
        bursts = [self._burst(calls, rounds, launching * rounds) for _ in range(self.repeats)]
        seconds = [burst / rounds / len(calls) for burst in bursts]
        return Timing(statistics.median(seconds), max(seconds) / min(seconds) - 1, min(seconds))

    def _burst(self, calls: Sequence[Call], rounds: int, launching: float) -> float:
        """Device seconds of `rounds` times all calls, of which the host needs about `launching` seconds to launch."""
        raise NotImplementedError


class Rehearsal(Device):
    """The CPU in place of a GPU: everything runs, nothing it measures means anything."""

    def __init__(self) -> None:
        self.name = "cpu"
        self.torch_device = torch.device("cpu")
        self.dtype = torch.float32
        self.is_rehearsal = True
        self.total_bytes = 1 << 40
        self.cache_bytes = 1 << 10
        self.activities = (ProfilerActivity.CPU,)
        self.trace_kinds = frozenset({"cpu_op"})
        self.repeats = 2
        self.most_calls = 2

    def facts(self) -> dict[str, str]:
        return {"device": "CPU"}

    def _burst(self, calls: Sequence[Call], rounds: int, launching: float) -> float:
        started = time.perf_counter()
        for _ in range(rounds):
            for call in calls:
                call()
        return time.perf_counter() - started


class Gpu(Device):
    """The current CUDA device, in bfloat16. Raises InputError where there is none."""

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            raise InputError(
                "torch sees no CUDA device; run this on a machine with an NVIDIA GPU and a CUDA build of torch, "
                "or rehearse it on the CPU with --rehearse"
            )
        self.torch_device = torch.device("cuda", torch.cuda.current_device())
        self._properties = torch.cuda.get_device_properties(self.torch_device)
        self.name = self._properties.name
        self.dtype = torch.bfloat16
        self.is_rehearsal = False
        self.total_bytes = self._properties.total_memory
        self.cache_bytes = getattr(self._properties, "L2_cache_size", 64 << 20)
        self.activities = (ProfilerActivity.CUDA,)
        self.trace_kinds = frozenset({"kernel", "gpu_memcpy", "gpu_memset"})
        self.repeats = 7
        self.most_calls = 200

    def facts(self) -> dict[str, str]:
        found = self._properties
        return {
            "device": f"{found.name}, compute capability {found.major}.{found.minor}",
            "multiprocessors": f"{found.multi_processor_count}, L2 {self.cache_bytes / 2**20:.0f} MiB, "
            f"memory {found.total_memory / 2**30:.0f} GiB",
            "CUDA": str(torch.version.cuda),
            "driver, clock, power limit": _nvidia_smi("driver_version,clocks.max.sm,power.limit"),
        }

    @property
    def uuid(self) -> str:
        found = str(getattr(self._properties, "uuid", ""))
        return found if found.startswith("GPU-") or not found else f"GPU-{found}"

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def allocated_bytes(self) -> int:
        return torch.cuda.memory_allocated()

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated()

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def release(self) -> None:
        gc.collect()
        torch.cuda.empty_cache()

    def _burst(self, calls: Sequence[Call], rounds: int, launching: float) -> float:
        # The device pauses while the host launches everything, or small kernels would be timed by the host's pace.
        torch.cuda._sleep(int(min(1.5 * launching + 1e-4, LONGEST_PAUSE) * CYCLES_PER_SECOND))
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(rounds):
            for call in calls:
                call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3


def _nvidia_smi(fields: str) -> str:
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return "; ".join(found.strip().splitlines())
