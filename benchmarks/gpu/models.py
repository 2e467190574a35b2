"""The models of a run, made of random numbers on the device: one engine and one of transformers at a time."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.gpu.device import Device
from benchmarks.gpu.session import NotHereError
from benchmarks.gpu.sizes import Sizes
from benchmarks.peers.transformers import build_transformers
from benchmarks.random_model import RandomSource, random_checkpoint
from preftree.engine.engine import Engine
from preftree.engine.weights.names import num_parameters

# Memory that a shape needs, in sizes of its weights: with activations and a tensor that is being packed.
ENGINE_WEIGHTS = 1.6
BOTH_WEIGHTS = 2.5


class Models:
    """Loads what is asked for and lets go of what was loaded before.

    weight_bytes, twin_bytes: of the engine and of transformers at hand. load_seconds: that the engine took.
    """

    def __init__(self, device: Device, sizes: Sizes) -> None:
        self._device, self._sizes = device, sizes
        self._engine: Engine | None = None
        self._engine_kind: tuple[str, str] | None = None
        self._twin: Any = None
        self._twin_shape: str | None = None
        self.weight_bytes, self.twin_bytes = 0, 0
        self.load_seconds = 0.0

    @property
    def resident_bytes(self) -> int:
        """What stays on the device whatever runs."""
        return self.weight_bytes + self.twin_bytes

    def engine(self, shape: str, dtype: str | None = None) -> Engine:
        """The engine on model `shape`, in the device's type where no other is asked for.

        Raises NotHereError where the device is too small for it.
        """
        dtype = dtype or self._device.dtype_name
        self._check_room(shape, ENGINE_WEIGHTS)
        if self._twin_shape not in (None, shape):
            self.drop()
        if self._engine is None or self._engine_kind != (shape, dtype):
            self._engine = None
            self._device.release()
            before, started = self._device.allocated_bytes(), time.perf_counter()
            config, device = self._sizes.shapes[shape], self._device
            checkpoint = random_checkpoint(shape, config, device.torch_device, device.dtype)
            self._engine = Engine(checkpoint, device=str(device.torch_device), dtype=dtype)
            self._engine_kind = shape, dtype
            device.synchronize()
            self.weight_bytes = device.allocated_bytes() - before
            self.load_seconds = time.perf_counter() - started
        return self._engine

    def transformers(self, shape: str) -> Any:
        """transformers with the same weights beside the engine. Raises NotHereError where there is no room for both."""
        self._check_room(shape, BOTH_WEIGHTS)
        if self._twin_shape != shape:
            self._twin, self._twin_shape = None, None
            self._device.release()
            config, device = self._sizes.shapes[shape], self._device
            before = device.allocated_bytes()
            source = RandomSource(config, device.torch_device, device.dtype)
            self._twin = build_transformers(config, source, device.torch_device, device.dtype)
            self._twin_shape = shape
            self.twin_bytes = device.allocated_bytes() - before
        return self._twin

    def drop(self) -> None:
        """Let go of everything."""
        self._engine, self._engine_kind, self._twin, self._twin_shape = None, None, None, None
        self.weight_bytes, self.twin_bytes = 0, 0
        self._device.release()

    def _check_room(self, shape: str, factor: float) -> None:
        needed = factor * num_parameters(self._sizes.shapes[shape]) * self._device.dtype.itemsize
        if needed > self._device.total_bytes:
            raise NotHereError(
                f"{shape} needs {needed / 1e9:.0f} GB here, the device has {self._device.total_bytes / 1e9:.0f} GB"
            )
