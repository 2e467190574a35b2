"""Layers in the host's memory, for a GPU: copied there by a stream of their own while others are computed."""

from __future__ import annotations

import functools
import logging
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch

# What allocations of torch begin at a multiple of: libraries may choose an algorithm by the alignment.
_ALIGNMENT = 512


@dataclass(frozen=True)
class _Place:
    """Of a matrix in its layer's bytes, and the form that it has there."""

    begin: int
    end: int
    dtype: torch.dtype
    shape: torch.Size
    strides: tuple[int, ...]

    def view(self, memory: torch.Tensor) -> torch.Tensor:
        return memory[self.begin : self.end].view(self.dtype).as_strided(self.shape, self.strides)


class PinnedLayers:
    """A `LayerStore` of one flat block of pinned host memory a layer, and two flat buffers on the device.

    The copy into a buffer waits for the event that its last reader recorded, and whoever reads it next waits for the
    copy's: both on the device, while the host goes on.
    """

    slots = 2

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._layers: list[torch.Tensor] = []
        self._places: list[list[_Place]] = []
        self._pinned: list[int] = []
        weakref.finalize(self, _unpin, self._pinned)

    def add(self, matrices: Sequence[torch.Tensor]) -> None:
        places, end = [], 0
        for matrix in matrices:
            places.append(_Place(end, end + matrix.nbytes, matrix.dtype, matrix.shape, matrix.stride()))
            end += -(-matrix.nbytes // _ALIGNMENT) * _ALIGNMENT
        layer = torch.empty(end, dtype=torch.uint8)
        if _pin(layer):
            self._pinned.append(layer.data_ptr())
        for matrix, place in zip(matrices, places, strict=True):
            place.view(layer).copy_(matrix)
        self._layers.append(layer)
        self._places.append(places)

    def open(self) -> None:
        size = max(map(len, self._layers))
        self._stream = torch.cuda.Stream(self._device)
        self._buffers = [torch.empty(size, dtype=torch.uint8, device=self._device) for _ in range(self.slots)]
        self._copied = [torch.cuda.Event() for _ in self._buffers]
        self._read = [torch.cuda.Event() for _ in self._buffers]
        for slot in range(self.slots):  # whatever used this memory before
            self.free(slot)

    def begin(self, layer: int, slot: int) -> None:
        host = self._layers[layer]
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._read[slot])
            self._buffers[slot][: len(host)].copy_(host, non_blocking=True)
            self._copied[slot].record(self._stream)

    def matrices(self, layer: int, slot: int) -> list[torch.Tensor]:
        torch.cuda.current_stream(self._device).wait_event(self._copied[slot])
        return [place.view(self._buffers[slot]) for place in self._places[layer]]

    def free(self, slot: int) -> None:
        self._read[slot].record(torch.cuda.current_stream(self._device))


def _pin(memory: torch.Tensor) -> bool:
    """Whether the system lets the GPU read `memory` by itself. Its size stays as it is, where torch's own allocator of
    pinned memory would take the next power of two."""
    error = torch.cuda.cudart().cudaHostRegister(memory.data_ptr(), memory.nbytes, 0)
    if int(error):
        _warn(f"the system refuses pinned memory ({error}): layers are copied to the GPU at about a third of the speed")
    return not int(error)


def _unpin(addresses: Sequence[int]) -> None:
    for address in addresses:
        torch.cuda.cudart().cudaHostUnregister(address)


@functools.cache
def _warn(message: str) -> None:
    """Once."""
    logging.getLogger("preftree").warning(message)
