"""What of a model and its batches fits into memory: layers that stay there or are streamed, and on several devices."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.errors import InputError
from preftree.engine.planning.estimate import MemoryModel
from preftree.engine.planning.stages import divide, stage_starts
from preftree.engine.precision import name_of
from preftree.kernels.quantized.types import Quantized
from preftree.kernels.tiles import PlanLayout

AUTO, ALWAYS, NEVER = "auto", "always", "never"
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
class Placement:
    """A stage of the model: consecutive layers, and the device that they are on."""

    device: torch.device
    layers: range


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


def divided(
    config: ModelConfig, devices: Sequence[torch.device], memory: MemoryModel, fraction: float | None
) -> tuple[Placement, ...]:
    """The layers, divided by what they take and what each device may still use."""
    layers = range(config.num_layers)
    if len(devices) == 1:
        return (Placement(devices[0], layers),)
    sizes = [memory.weight_bytes(config, range(layer, layer + 1)) for layer in layers]
    rooms = [usable_bytes(device, fraction) if device.type == "cuda" else 1 for device in devices]
    starts = stage_starts(config)
    parts = divide(sizes, starts, rooms)
    if parts is None:
        why = f"has {config.num_layers} layers"
        if len(starts) + 1 < config.num_layers:
            why = f"has layers that use keys and values of earlier ones, so that it has {len(starts) + 1} parts at most"
        raise InputError(f"{len(devices)} devices are too many: the model {why}; name fewer devices")
    return tuple(Placement(device, part) for device, part in zip(devices, parts, strict=True))


def memory_of(layout: PlanLayout, dtype: torch.dtype, quantized: Quantized | None) -> MemoryModel:
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


def streamed_memory(memory: MemoryModel, layout: PlanLayout) -> MemoryModel:
    """`memory` where layers are streamed."""
    if not layout.in_chunks:
        return replace(memory, slots=_SLOTS, flops_per_byte=_GPU_FLOPS_PER_BYTE)
    rate = _CPU_FLOPS_PER_BYTE_FLOAT32 if memory.dtype_bytes == 4 and not memory.quantized else _CPU_FLOPS_PER_BYTE
    return replace(memory, slots=_SLOTS_IN_CHUNKS, flops_per_byte=rate * layout.threads)


def that_fits(
    config: ModelConfig,
    stage: Placement,
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
    layers, usable, (resident, streamed) = stage.layers, usable_bytes(stage.device, fraction), memories
    hiding = -(-streamed.hiding_rows(config) // streamed.row_block)
    tried = {NEVER: memories[:1], ALWAYS: memories[1:], AUTO: memories}[stream_layers]
    for memory in tried:
        room = usable - memory.weight_bytes(config, layers)
        if blocks := _blocks_that_fit(config, memory, max(most, hiding) if memory.slots else most, room):
            return memory, blocks
    needed = tried[-1].weight_bytes(config, layers) + batch_bytes(config, resident, resident.row_block)
    how = " with streamed layers" if tried[-1].slots else ""
    is_whole = len(layers) == config.num_layers
    what = "the model needs" if is_whole else f"layers {layers.start} to {layers.stop - 1} of the model need"
    raise InputError(
        f"{what} {needed / 1e9:.1f} GB in {name_of(dtype)}{how}, and may use {usable / 1e9:.1f} GB of "
        f"{stage.device} ({torch.cuda.get_device_name(stage.device)}); free some of it, raise memory_fraction if that "
        f"is set, {'' if is_whole else 'name more devices, '}take a smaller model, or use device 'cpu'"
    )


def _blocks_that_fit(config: ModelConfig, memory: MemoryModel, most: int, room: int) -> int:
    """Row blocks, up to `most`, that `room` bytes are enough for; 0 if not even for one."""

    def needed(blocks: int) -> int:
        return batch_bytes(config, memory, blocks * memory.row_block)

    return bisect_right(range(1, most + 1), room, key=needed)


def batch_bytes(config: ModelConfig, memory: MemoryModel, rows: int) -> int:
    """Of the prompts that a budget is made for."""
    longest = min(config.max_context, _BUDGET_PROMPT)
    return memory.batch_bytes(config, rows, rows // _BUDGET_ROWS_PER_PROMPT, longest)
