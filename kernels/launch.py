"""Launch settings of tree attention: one frozen table by architecture and head size. Nothing is tuned at run time."""

from __future__ import annotations

from dataclasses import dataclass

import torch

HEAD_SIZES = (64, 80, 96, 128, 256)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)

# What Triton's interpreter runs with: it has no architecture of its own.
INTERPRETED_CAPABILITY = 90


@dataclass(frozen=True)
class AttentionSettings:
    """block_m: packed query rows of a tile. block_n: keys of a block. num_warps, num_stages: as Triton means them."""

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True)
class _Shape:
    """heights: tiles to choose from, (block_m, num_warps), lowest first. The rest is the same for all of them."""

    heights: tuple[tuple[int, int], ...]
    block_n: int
    num_stages: int

    @property
    def tallest(self) -> int:
        return self.heights[-1][0]


# A row's bits must not depend on the height of its tile. So all heights of one entry share the key block, and a warp
# owns 16 whole rows in each: the sums of a row run in the same instructions in the same order. Heights in between
# would break that: on sm_80 Triton spreads a row over several warps as soon as block_m is below the head size, and on
# sm_90 other tensor-core instructions take over below 64 rows. Where only one height kept the registers from spilling,
# there is one. A tile of one row is bound by reading K and V; its empty rows cost no time.
# Every entry of sm_80 fits the 99 KiB of shared memory of the smaller cards that fall back to it.
_TENSOR_CORES = {
    80: {
        64: _Shape(((16, 1), (128, 8)), block_n=64, num_stages=3),
        80: _Shape(((16, 1), (128, 8)), block_n=32, num_stages=3),
        96: _Shape(((16, 1), (128, 8)), block_n=32, num_stages=3),
        128: _Shape(((16, 1), (128, 8)), block_n=32, num_stages=3),
        256: _Shape(((64, 8),), block_n=32, num_stages=3),
    },
    90: {
        64: _Shape(((64, 4), (128, 8)), block_n=64, num_stages=3),
        80: _Shape(((64, 4), (128, 8)), block_n=64, num_stages=3),
        96: _Shape(((64, 4), (128, 8)), block_n=64, num_stages=3),
        128: _Shape(((64, 4), (128, 8)), block_n=64, num_stages=3),
        256: _Shape(((128, 8),), block_n=32, num_stages=3),
    },
}

# float32 runs on plain multiply-add units, on every architecture alike. One height each.
_FLOAT32 = {
    64: _Shape(((64, 8),), block_n=32, num_stages=1),
    80: _Shape(((32, 8),), block_n=16, num_stages=1),
    96: _Shape(((32, 8),), block_n=16, num_stages=1),
    128: _Shape(((32, 8),), block_n=16, num_stages=1),
    256: _Shape(((16, 8),), block_n=32, num_stages=1),
}


def capability_of(device: torch.device) -> int:
    """Compute capability of `device` as major * 10 + minor."""
    if device.type != "cuda":
        return INTERPRETED_CAPABILITY
    major, minor = torch.cuda.get_device_capability(device)
    return major * 10 + minor


def attention_settings(capability: int, head_size: int, dtype_bytes: int, packed_rows: int) -> AttentionSettings:
    """How to launch tiles of up to `packed_rows` rows (tokens of a tile times query heads of a K/V head).

    Raises ValueError for a head size, dtype or architecture without an entry, and for tiles that are too tall.
    """
    shape = _shape(capability, head_size, dtype_bytes)
    for block_m, num_warps in shape.heights:
        if packed_rows <= block_m:
            return AttentionSettings(block_m, shape.block_n, num_warps, shape.num_stages)
    raise ValueError(f"a tile of {packed_rows} packed rows exceeds the kernel's {shape.tallest}; cut smaller tiles")


def tile_rows(capability: int, head_size: int, dtype_bytes: int, group: int) -> int:
    """Tokens that a tile may hold where `group` query heads share a K/V head."""
    tallest = _shape(capability, head_size, dtype_bytes).tallest
    if group > tallest:
        raise ValueError(f"{group} query heads per K/V head are too many for tree attention; supported: 1 to {tallest}")
    return tallest // group


def _shape(capability: int, head_size: int, dtype_bytes: int) -> _Shape:
    if head_size not in HEAD_SIZES:
        raise ValueError(f"no tree attention for head size {head_size}; supported: {', '.join(map(str, HEAD_SIZES))}")
    if dtype_bytes not in (2, 4):
        raise ValueError(f"no tree attention for {dtype_bytes}-byte floats; supported: bfloat16, float16, float32")
    if capability < 80:
        raise ValueError(f"tree attention needs compute capability 8.0 or newer, this device has {capability / 10}")
    if dtype_bytes == 4:
        return _FLOAT32[head_size]
    return _TENSOR_CORES[90 if 90 <= capability < 120 else 80][head_size]
