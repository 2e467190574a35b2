"""Tensors on their way between host and device while the host goes on. Where the device is a CPU nothing is copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the host on `device`, through pinned memory: from any other, the host waits for all earlier work."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


@dataclass(frozen=True)
class HostCopies:
    """Tensors that are being copied to the host.

    Attributes:
        tensors: in host memory; what they hold is there once `done` is.
        done: on a GPU, recorded after the copies.
    """

    tensors: tuple[torch.Tensor, ...]
    done: torch.cuda.Event | None

    @classmethod
    def start(cls, tensors: Sequence[torch.Tensor], device: torch.device) -> HostCopies:
        """Copies of `tensors`, which later work on the device's current stream may overwrite."""
        # Into pinned memory, after what is in the stream already.
        copies = tuple(tensor.to("cpu", non_blocking=True) for tensor in tensors)
        if device.type != "cuda":
            return cls(copies, None)
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(device))
        return cls(copies, done)

    def wait(self) -> tuple[torch.Tensor, ...]:
        """The copies, complete."""
        if self.done is not None:
            self.done.synchronize()
        return self.tensors
