"""Where a model runs and in which numbers: device, dtype, operations, block sizes, and how large a batch may be."""

from __future__ import annotations

import functools
import logging
from bisect import bisect_right
from dataclasses import dataclass, replace
from types import ModuleType

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.errors import InputError
from preftree.engine.memory import host_bytes_free
from preftree.engine.planning.estimate import MemoryModel
from preftree.kernels import isa
from preftree.kernels.ops import implementation
from preftree.kernels.quantized.types import Quantized, product_name
from preftree.kernels.tiles import PlanLayout

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DTYPES |= {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
AUTO, ALWAYS, NEVER = "auto", "always", "never"
# What linear layers may be quantised to, by the names that torch and people have for it.
QUANTIZED: dict[str, Quantized] = {"int8": "int8", "fp8": "fp8", "float8_e4m3fn": "fp8"}
# What products of fp8 ask of a GPU: its compute capability, and what inputs and outputs are multiples of.
LEAST_FP8_CAPABILITY = (8, 9)
FP8_MULTIPLE = 16
# Of a GPU's free memory; the rest is for the allocator's gaps and the library's workspaces.
USABLE_MEMORY = 0.85
# The prompts that a batch budget is made for: tokens of the longest, and rows for each prompt's end.
_BUDGET_PROMPT = 8192
_BUDGET_ROWS_PER_PROMPT = 8
# Layers in memory where they are streamed: of a GPU the one at work and the next; chunks of rows are in two at once.
_SLOTS, _SLOTS_IN_CHUNKS = 2, 3
# What a device computes while a byte is copied. 700 TFLOP/s at 55 GB/s from pinned memory over PCIe 5; other cards'
# ratios are close, as both grow. A core with AMX does 0.8 TFLOP/s, in float32 0.06, and a disk reads 1.5 GB/s.
_GPU_FLOPS_PER_BYTE = 12_700
_CPU_FLOPS_PER_BYTE, _CPU_FLOPS_PER_BYTE_FLOAT32 = 530, 40


@dataclass(frozen=True)
class Target:
    """Where a model runs, in which types, and how.

    Attributes:
        device: of weights and activations.
        dtype: of activations, and of weights unless they are quantized.
        ops: the operations, see `kernels.ops`.
        layout: block sizes of the operations.
        memory: what a batch needs.
        batch_tokens: rows of a batch where nobody asks for another number.
        memory_fraction: of a GPU's memory, see `usable_bytes`.
        quantized: what linear layers multiply in, if not in `dtype`.
    """

    device: torch.device
    dtype: torch.dtype
    ops: ModuleType
    layout: PlanLayout
    memory: MemoryModel
    batch_tokens: int
    memory_fraction: float | None = None
    quantized: Quantized | None = None

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
) -> Target:
    """device: "cpu", "cuda", "cuda:1"; None or "auto" is a GPU that can run this model, else the CPU.

    dtype: None or "auto" is bfloat16 on a GPU and on a CPU that is made for it (`isa.default_dtype`), else float32.
    "int8" quantizes linear layers on a CPU, "fp8" on a GPU (a CPU emulates it); activations are what "auto" stands for.
    batch_tokens: None is as many as fit well. memory_fraction: of a GPU's memory, see `usable_bytes`. stream_layers:
    "always", "never", or "auto", where the weights do not fit beside a batch. Devices and dtypes of torch are taken,
    too. Raises InputError, one line, for what is unknown, missing or too small.
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
    if device not in (None, "auto"):
        return _target(config, str(device), dtype, *limits)
    if gpu_is_there():
        try:
            return _target(config, "cuda", dtype, *limits)
        except UnfitDeviceError as error:
            logging.getLogger("preftree").warning(f"{error}; running on the CPU")
    return _target(config, "cpu", dtype, *limits)


def name_of(dtype: torch.dtype) -> str:
    """ "bfloat16" of torch.bfloat16."""
    return str(dtype).removeprefix("torch.")


def gpu_is_there() -> bool:
    """Whether torch sees a GPU, fit for the model or not."""
    return torch.cuda.is_available()


class UnfitDeviceError(InputError):
    """A device that is not there, or that has no kernels for this model."""


def usable_bytes(device: torch.device, fraction: float | None, taken: int = 0) -> int:
    """Bytes of a GPU that may still be used.

    fraction: of the whole memory, for all that this package puts there; None for most of what is free. taken: bytes of
    the fraction that are in use already.
    """
    free, total = torch.cuda.mem_get_info(device)
    # What torch holds but does not use is free, too.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    usable = int(free * USABLE_MEMORY)
    return usable if fraction is None else min(usable, int(total * fraction) - taken)


def _target(
    config: ModelConfig,
    name: str,
    dtype_name: str,
    batch_tokens: int | None,
    fraction: float | None,
    stream_layers: str,
) -> Target:
    quantized = QUANTIZED.get(dtype_name)
    try:
        device = torch.device(name)
        if quantized == "int8":
            _check_int8(device)
        dtype = DTYPES.get(dtype_name) or (torch.bfloat16 if device.type == "cuda" else isa.default_dtype())
        ops = implementation(device, dtype)
        if quantized == "fp8":
            _check_fp8(device, config)
        layouts = (ops.plan_layout(device, dtype, config.hidden_size, h.group_size, h.size) for h in config.heads)
        layout = min(layouts, key=lambda layout: layout.tile_rows)
    except (RuntimeError, ValueError) as error:
        raise UnfitDeviceError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from None
    resident = _memory(layout, dtype, quantized)
    streamed = _streamed(resident, layout)
    if device.type == "cuda":
        memory, blocks = _of_gpu(
            config, device, dtype, (resident, streamed), layout.batch_blocks, fraction, stream_layers
        )
    else:
        rows = batch_tokens or layout.batch_blocks * layout.row_block
        needed = resident.weight_bytes(config) + _batch_bytes(config, resident, rows)
        is_short = stream_layers == AUTO and needed > host_bytes_free()
        memory, blocks = streamed if is_short or stream_layers == ALWAYS else resident, layout.batch_blocks
    return Target(device, dtype, ops, layout, memory, batch_tokens or blocks * layout.row_block, fraction, quantized)


def _check_int8(device: torch.device) -> None:
    """InputError, one line, where there are no products of int8: for the device or the processor."""
    if device.type != "cpu":
        raise InputError(f"int8 runs on CPUs; use dtype 'bfloat16' on device '{device}', or device 'cpu'")
    if obstacle := isa.int8_obstacle():
        raise InputError(f"int8 does not run here: {obstacle}; use dtype '{name_of(isa.default_dtype())}'")


def _check_fp8(device: torch.device, config: ModelConfig) -> None:
    """InputError, one line, where a GPU has no products of fp8, or none for this model. Says so once where a CPU
    emulates them."""
    if device.type == "cpu":
        _warn("fp8 is emulated on a CPU: for figures of its accuracy, not for speed")
        return
    try:
        product_name()
    except ValueError as error:
        raise InputError(str(error)) from None
    capability, least = (
        ".".join(map(str, pair)) for pair in (torch.cuda.get_device_capability(device), LEAST_FP8_CAPABILITY)
    )
    if float(capability) < float(least):
        raise InputError(
            f"fp8 needs a GPU of compute capability {least} or newer, {device} ({torch.cuda.get_device_name(device)}) "
            f"has {capability}; use dtype 'bfloat16'"
        )
    sizes = [("hidden_size", config.hidden_size)]
    sizes += [("intermediate_size", config.mlp_size(layer)) for layer in range(config.num_layers)]
    if config.experts is not None and config.experts.shared_width:
        sizes.append(("shared expert's width", config.experts.shared_width))
    for field, size in sizes:
        if size % FP8_MULTIPLE:
            raise InputError(
                f"fp8 products take multiples of {FP8_MULTIPLE}, and this model's {field} is {size:,}; "
                "use dtype 'bfloat16'"
            )


@functools.cache
def _warn(message: str) -> None:
    """Once."""
    logging.getLogger("preftree").warning(message)


def _memory(layout: PlanLayout, dtype: torch.dtype, quantized: Quantized | None) -> MemoryModel:
    return MemoryModel(
        dtype_bytes=dtype.itemsize,
        row_block=layout.row_block,
        lanes=layout.tile_rows,
        chunk_rows=layout.chunk_rows,
        wide_bytes=4 if layout.is_wide else dtype.itemsize,
        kv_buffers=layout.kv_buffers,
        quantized=quantized,
        threads=torch.get_num_threads() if layout.in_chunks else 0,
    )


def _streamed(memory: MemoryModel, layout: PlanLayout) -> MemoryModel:
    """`memory` where layers are streamed."""
    if not layout.in_chunks:
        return replace(memory, slots=_SLOTS, flops_per_byte=_GPU_FLOPS_PER_BYTE)
    rate = _CPU_FLOPS_PER_BYTE_FLOAT32 if memory.dtype_bytes == 4 and not memory.quantized else _CPU_FLOPS_PER_BYTE
    return replace(memory, slots=_SLOTS_IN_CHUNKS, flops_per_byte=rate * layout.threads)


def _of_gpu(
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    memories: tuple[MemoryModel, MemoryModel],
    most: int,
    fraction: float | None,
    stream_layers: str,
) -> tuple[MemoryModel, int]:
    """The first of `memories`, resident and streamed, that leaves room for a row block, and how many of them fit.

    `most` blocks of resident layers; of streamed ones as many as hide the copy, if those are more. InputError, one
    line, if nothing fits.
    """
    usable, (resident, streamed) = usable_bytes(device, fraction), memories
    hiding = -(-streamed.hiding_rows(config) // streamed.row_block)
    tried = {NEVER: memories[:1], ALWAYS: memories[1:], AUTO: memories}[stream_layers]
    for memory in tried:
        room = usable - memory.weight_bytes(config)
        if blocks := _blocks_that_fit(config, memory, max(most, hiding) if memory.slots else most, room):
            return memory, blocks
    needed = tried[-1].weight_bytes(config) + _batch_bytes(config, resident, resident.row_block)
    how = " with streamed layers" if tried[-1].slots else ""
    raise InputError(
        f"the model needs {needed / 1e9:.1f} GB in {name_of(dtype)}{how}, and may use {usable / 1e9:.1f} GB of "
        f"{device} ({torch.cuda.get_device_name(device)}); free some of it, raise memory_fraction if that is set, "
        "take a smaller model, or use device 'cpu'"
    )


def _blocks_that_fit(config: ModelConfig, memory: MemoryModel, most: int, room: int) -> int:
    """Row blocks, up to `most`, that `room` bytes are enough for; 0 if not even for one."""

    def needed(blocks: int) -> int:
        return _batch_bytes(config, memory, blocks * memory.row_block)

    return bisect_right(range(1, most + 1), room, key=needed)


def _batch_bytes(config: ModelConfig, memory: MemoryModel, rows: int) -> int:
    """Of the prompts that a budget is made for."""
    longest = min(config.max_context, _BUDGET_PROMPT)
    return memory.batch_bytes(config, rows, rows // _BUDGET_ROWS_PER_PROMPT, longest)
