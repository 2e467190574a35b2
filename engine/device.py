"""Where a model runs and in which numbers: device, dtype, operations, block sizes, and how large a batch may be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from types import ModuleType

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.device_names import Devices, named_devices
from preftree.engine.errors import InputError
from preftree.engine.fitting import (
    ALWAYS,
    AUTO,
    NEVER,
    Placement,
    batch_bytes,
    divided,
    memory_of,
    streamed_memory,
    that_fits,
)
from preftree.engine.memory import host_bytes_free
from preftree.engine.planning.estimate import MemoryModel
from preftree.engine.precision import DTYPES, QUANTIZED, check_fp8, check_int8, name_of
from preftree.kernels import isa
from preftree.kernels.ops import implementation
from preftree.kernels.quantized.types import Quantized, product_name
from preftree.kernels.tiles import PlanLayout


@dataclass(frozen=True)
class Target:
    """Where a model runs, in which types, and how.

    Attributes:
        device: of weights and activations; that of the last stage, where results are read.
        dtype: of activations, and of weights unless they are quantized.
        ops: the operations, see `kernels.ops`.
        layout: block sizes of the operations.
        memory: what a batch needs.
        batch_tokens: rows of a batch where nobody asks for another number.
        stages: all layers in order; one stage unless several devices share the model.
        memory_fraction: of a GPU's memory, see `usable_bytes`.
        quantized: what linear layers multiply in, if not in `dtype`.
    """

    device: torch.device
    dtype: torch.dtype
    ops: ModuleType
    layout: PlanLayout
    memory: MemoryModel
    batch_tokens: int
    stages: tuple[Placement, ...]
    memory_fraction: float | None = None
    quantized: Quantized | None = None

    @property
    def devices(self) -> tuple[torch.device, ...]:
        """Those of the stages, in order."""
        return tuple(stage.device for stage in self.stages)

    @property
    def wide_dtype(self) -> torch.dtype:
        """Of the residual stream, norms' weights and angles."""
        return torch.float32 if self.layout.is_wide else self.dtype

    @property
    def device_name(self) -> str | None:
        """What a GPU calls itself."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else None

    @property
    def streams_layers(self) -> bool:
        """Whether layers are copied into memory one after the other in every pass, instead of being there."""
        return self.memory.slots > 0

    @property
    def dtype_name(self) -> str:
        """Of matrix products, for records and people: "int8" or "fp8" where they are quantized, else `dtype`."""
        return self.quantized or name_of(self.dtype)

    @property
    def instructions(self) -> str | None:
        """What runs on a CPU, as far as last bits depend on it; None on a GPU, but for fp8 that is not the library's.

        The instructions of matrix products, and the sources of compiled operations where there are some.
        """
        if self.device.type != "cpu":
            return "fp8 by triton" if self.quantized == "fp8" and product_name() == "triton" else None
        names = [isa.instructions(name_of(self.dtype))]
        if self.quantized == "int8":
            names.insert(0, isa.instructions("int8"))
        elif self.quantized == "fp8":
            names = ["emulated", isa.instructions("float32"), *names]
        if build := self.ops.build():
            names.append(f"kernels {build}")
        return ", ".join(dict.fromkeys(names))


def choose_target(
    config: ModelConfig,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    batch_tokens: int | None,
    memory_fraction: float | None = None,
    stream_layers: str = AUTO,
    devices: Devices | None = None,
) -> Target:
    """device: "cpu", "cuda", "cuda:1"; None or "auto" is a GPU that can run this model, else the CPU.

    dtype: None or "auto" is bfloat16 on a GPU and on a CPU that is made for it (`isa.default_dtype`), else float32.
    "int8" quantizes linear layers on a CPU, "fp8" on a GPU (a CPU emulates it); activations are what "auto" stands for.
    batch_tokens: None is as many as fit well. memory_fraction: of a GPU's memory, see `usable_bytes`. stream_layers:
    "always", "never", or "auto", where the weights do not fit beside a batch. devices: that share the model, see
    `named_devices`, in place of `device`. Devices and dtypes of torch are taken, too. Raises InputError, one line, for
    what is unknown, missing or too small.
    """
    dtype = AUTO if dtype is None else str(dtype).removeprefix("torch.")
    if dtype not in (known := (*DTYPES, *QUANTIZED, AUTO)):
        raise InputError(f"dtype {dtype!r} is not supported; use one of {', '.join(known)}")
    if batch_tokens is not None and batch_tokens < 1:
        raise InputError(f"batch_tokens is {batch_tokens}; it must be at least 1")
    if memory_fraction is not None and not 0 < memory_fraction <= 1:
        raise InputError(f"memory_fraction is {memory_fraction}; it must be above 0 and at most 1")
    if stream_layers not in (AUTO, ALWAYS, NEVER):
        raise InputError(f"stream_layers is {stream_layers!r}; it must be one of {AUTO}, {ALWAYS}, {NEVER}")
    limits = batch_tokens, memory_fraction, stream_layers
    if devices is not None:
        if device not in (None, AUTO):
            raise InputError("give either a device or devices, not both")
        if stream_layers == ALWAYS:
            raise InputError("stream_layers 'always' is for a single device; leave it out, or devices")
        names = [str(one) for one in named_devices(devices)]
        return _target(config, names, dtype, batch_tokens, memory_fraction, NEVER)
    if device not in (None, AUTO):
        return _target(config, [str(device)], dtype, *limits)
    if gpu_is_there():
        try:
            return _target(config, ["cuda"], dtype, *limits)
        except UnfitDeviceError as error:
            logging.getLogger("preftree").warning(f"{error}; running on the CPU")
    return _target(config, ["cpu"], dtype, *limits)


def gpu_is_there() -> bool:
    """Whether torch sees a GPU, fit for the model or not."""
    return torch.cuda.is_available()


class UnfitDeviceError(InputError):
    """A device that is not there, or that has no kernels for this model."""


def _target(
    config: ModelConfig,
    names: Sequence[str],
    dtype_name: str,
    batch_tokens: int | None,
    fraction: float | None,
    stream_layers: str,
) -> Target:
    """names: of devices of one kind."""
    quantized = QUANTIZED.get(dtype_name)
    try:
        devices = [torch.device(name) for name in names]
        device = devices[-1]
        if quantized == "int8":
            check_int8(device)
        dtype = DTYPES.get(dtype_name) or (torch.bfloat16 if device.type == "cuda" else isa.default_dtype())
        ops = implementation(device, dtype)
        if quantized == "fp8":
            check_fp8(device, config)
        layouts = (ops.plan_layout(device, dtype, config.hidden_size, h.group_size, h.size) for h in config.heads)
        layout = min(layouts, key=lambda layout: layout.tile_rows)
    except (RuntimeError, ValueError) as error:
        raise UnfitDeviceError(f"device {names[-1]!r} cannot be used: {str(error).splitlines()[0]}") from None
    resident = memory_of(layout, dtype, quantized)
    streamed, blocks = streamed_memory(resident, layout), layout.batch_blocks
    stages = divided(config, devices, resident, fraction)
    if device.type == "cuda":
        both = resident, streamed
        fitting = [that_fits(config, stage, dtype, both, blocks, fraction, stream_layers) for stage in stages]
        memory, blocks = min(fitting, key=itemgetter(1))
    else:
        batch = batch_bytes(config, resident, batch_tokens or blocks * layout.row_block)
        is_short = stream_layers == AUTO and resident.weight_bytes(config) + batch > host_bytes_free()
        memory = streamed if is_short or stream_layers == ALWAYS else resident
    rows = batch_tokens or blocks * layout.row_block
    return Target(device, dtype, ops, layout, memory, rows, stages, fraction, quantized)
