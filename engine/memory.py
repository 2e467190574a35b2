"""Running out of memory, on any device: how to tell, and how to make room; and how much a host has."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
from collections.abc import Iterator
from pathlib import Path

import torch

# What torch, its CPU allocator, cuBLAS and the CUDA driver say where they raise no class of their own.
_SIGNS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
# Version 2 and 1, as a container sees its own.
_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch might go where this one failed."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError, DeviceMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


class DeviceMemoryError(RuntimeError):
    """The memory of one of several devices ran out."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(f"the memory of device '{device}' ran out")
        self.device = device


@contextlib.contextmanager
def naming_device(device: torch.device) -> Iterator[None]:
    """Work on `device`, which is the current one meanwhile. DeviceMemoryError where its memory runs out."""
    try:
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(device) from None


def make_room(*devices: torch.device) -> None:
    """Give back what is allocated but not in use."""
    gc.collect()
    gpus = [device for device in devices if device.type == "cuda"]
    with contextlib.suppress(torch.AcceleratorError):  # one that has failed has nothing to give
        for device in gpus:
            torch.cuda.synchronize(device)
        if gpus:
            torch.cuda.empty_cache()


def give_back_freed() -> None:
    """Hand freed memory of the host back to the system, where its allocator would keep it for later.

    Loading frees a tensor as stored, and one as converted, for every one that stays: kept in the allocator's pool they
    come to half of the weights.
    """
    with contextlib.suppress(OSError, AttributeError):  # the C library is not glibc
        ctypes.CDLL(None).malloc_trim(0)


def host_bytes_free() -> int:
    """Bytes of the host that this process may still take, files in the system's cache not counted.

    What the machine has free, or, where that is less, what the control group (of a container, a batch job) leaves.
    """
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError):
        available = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
        found += [int(available[1]) * 1024] if available else []
    for folder, limit, usage in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # "max" is no number, and no limit
            cached = re.search(r"^(?:total_)?inactive_file (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
            used = int((folder / usage).read_text()) - (int(cached[1]) if cached else 0)
            found.append(max(0, int((folder / limit).read_text()) - used))
    return min(found)
