"""Launch settings of tree attention: one frozen table by architecture and head size. Nothing is tuned at run time.

`python -m benchmarks.kernels.tune` measures other settings on a GPU and prints a table to put in place of this one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

HEAD_SIZES = (64, 80, 96, 128, 256)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)

# What Triton's interpreter runs with: it has no architecture of its own.
INTERPRETED_CAPABILITY = 90


@dataclass(frozen=True)
class AttentionSettings:
    """How one variant of the kernel is compiled.

    Attributes:
        block_m: packed query rows of a tile.
        block_n: keys of a block.
        num_warps: warps of a program.
        num_stages: depth of the software pipeline. num_stages - 2 blocks of K and V are in flight, copied to shared
            memory while another block is multiplied; so 3 is the least that prefetches. With 2 every copy is waited
            for, 1 is no pipeline. Shared memory holds num_stages - 1 blocks on sm_80, and num_stages on sm_90, where
            the tensor cores may still read one.
        masks_all: mask every block of keys, needed or not, so that each warp owns whole rows.
    """

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int
    masks_all: bool = False


@dataclass(frozen=True)
class TileShapes:
    """The settings of one head size, which differ in height only.

    Attributes:
        heights: tiles to choose from, (block_m, num_warps), lowest first.
        block_n: as in `AttentionSettings`.
        num_stages: as in `AttentionSettings`.
    """

    heights: tuple[tuple[int, int], ...]
    block_n: int
    num_stages: int

    @property
    def tallest(self) -> int:
        return self.heights[-1][0]

    @property
    def all_settings(self) -> tuple[AttentionSettings, ...]:
        """Those of every height, lowest first."""
        return tuple(
            AttentionSettings(block_m, self.block_n, num_warps, self.num_stages, masks_all=len(self.heights) > 1)
            for block_m, num_warps in self.heights
        )


# A row's bits must not depend on the height of its tile. So all heights of one entry share the key block, and a warp
# owns 16 whole rows in each: the sums of a row run in the same instructions in the same order. On sm_80 Triton spreads
# a row over several warps as soon as block_m is below the head size, or a condition stands between the two products:
# so there are no heights in between, and no block without a mask where there are two. On sm_90 other tensor-core
# instructions take over below 64 rows, HMMA.16816 in place of HGMMA.64x64x16, whose sums nobody promises to be the
# same: 64 is the least there. Where only one height kept the registers from spilling, there is one. A tile of one row
# is bound by reading K and V; its empty rows cost no time.
# On sm_90, two programs of 64 rows share a multiprocessor: on an H200 they ran 1.1 times as fast as one of 128 with 4
# query heads per K/V head, and 1.5 times with 2, where branches of some 30 tokens leave half of a tall tile empty.
# Every entry of sm_80 fits the 99 KiB of shared memory of the smaller cards that fall back to it: at head size 256 keys
# come in blocks of 16, as 2 blocks of 32 in shared memory exceed it by 1,280 bytes, and one leaves nothing to prefetch.
TENSOR_CORES = {
    80: {
        64: TileShapes(((16, 1), (128, 8)), block_n=32, num_stages=3),
        80: TileShapes(((16, 1), (128, 8)), block_n=32, num_stages=3),
        96: TileShapes(((16, 1), (128, 8)), block_n=32, num_stages=3),
        128: TileShapes(((16, 1), (128, 8)), block_n=32, num_stages=3),
        256: TileShapes(((64, 8),), block_n=16, num_stages=4),
    },
    90: {
        64: TileShapes(((64, 4),), block_n=64, num_stages=3),
        80: TileShapes(((64, 4),), block_n=64, num_stages=3),
        96: TileShapes(((64, 4),), block_n=64, num_stages=3),
        128: TileShapes(((64, 4),), block_n=64, num_stages=3),
        256: TileShapes(((128, 8),), block_n=32, num_stages=3),
    },
}

# Tiles of one token, by table and head size, in place of the lowest height: rows of a decode step and of the last layer
# come in no others, so they may sum in an order of their own. On an H200 a step of an 8B model read K and V 1.2 to 1.3
# times as fast in them.
SINGLE_TOKENS = {(90, 128): AttentionSettings(16, 64, 2, 3)}

# float32 runs on plain multiply-add units, on every architecture alike. One height each.
FLOAT32 = {
    64: TileShapes(((64, 8),), block_n=32, num_stages=1),
    80: TileShapes(((32, 8),), block_n=16, num_stages=1),
    96: TileShapes(((32, 8),), block_n=16, num_stages=1),
    128: TileShapes(((32, 8),), block_n=16, num_stages=1),
    256: TileShapes(((16, 8),), block_n=32, num_stages=1),
}


def capability_of(device: torch.device) -> int:
    """Compute capability of `device` as major * 10 + minor."""
    if device.type != "cuda":
        return INTERPRETED_CAPABILITY
    major, minor = torch.cuda.get_device_capability(device)
    return major * 10 + minor


def assert_aligned(*tensors: torch.Tensor) -> None:
    """Memory of torch's allocator is, and so are slices of whole rows. For any other the JIT compiles narrower loads,
    whose sums may run in another order."""
    assert all(x.data_ptr() % 16 == 0 for x in tensors), "kernels take tensors that begin at multiples of 16 bytes"


def attention_settings(capability: int, head_size: int, dtype_bytes: int, tokens: int, group: int) -> AttentionSettings:
    """How to launch tiles of up to `tokens` rows, of `group` query heads to a K/V head each.

    Raises ValueError for a head size, dtype or architecture without an entry, and for tiles that are too tall.
    """
    shapes = tile_shapes(capability, head_size, dtype_bytes)
    single = SINGLE_TOKENS.get((capability, head_size))
    if tokens == 1 and dtype_bytes == 2 and single is not None and group <= single.block_m:
        return single
    packed_rows = tokens * group
    for settings in shapes.all_settings:
        if packed_rows <= settings.block_m:
            return settings
    raise ValueError(f"a tile of {packed_rows} packed rows exceeds the kernel's {shapes.tallest}; cut smaller tiles")


def tile_rows(capability: int, head_size: int, dtype_bytes: int, group: int) -> int:
    """Tokens that a tile may hold where `group` query heads share a K/V head. Raises ValueError as `tile_shapes`."""
    tallest = tile_shapes(capability, head_size, dtype_bytes).tallest
    if group > tallest:
        raise ValueError(
            f"tree attention takes up to {tallest} query heads per K/V head of size {head_size}, this model has "
            f"{group}; use device 'cpu'"
        )
    return tallest // group


def low_tile_rows(capability: int, head_size: int, dtype_bytes: int, group: int) -> int:
    """Tokens of the lowest tile, with the bits of the tallest; 0 where there is one height, or no token fits."""
    heights = tile_shapes(capability, head_size, dtype_bytes).heights
    return heights[0][0] // group if len(heights) > 1 else 0


def tile_shapes(capability: int, head_size: int, dtype_bytes: int) -> TileShapes:
    """The table's entry. Raises ValueError, one line that says what to do, where there is none."""
    if dtype_bytes not in (2, 4):
        raise ValueError(f"no tree attention for {dtype_bytes}-byte floats; use bfloat16, float16 or float32")
    if head_size not in HEAD_SIZES:
        supported = ", ".join(map(str, HEAD_SIZES))
        raise ValueError(f"no tree attention for heads of size {head_size}, only {supported}; use device 'cpu'")
    if capability < 80:
        raise ValueError(
            f"tree attention needs a GPU of compute capability 8.0 or newer, this one has {capability / 10}; "
            "use device 'cpu'"
        )
    if dtype_bytes == 4:
        return FLOAT32[head_size]
    shapes = TENSOR_CORES[table_of(capability)][head_size]
    # Tensor cores after Hopper's keep sums in a memory of their own, which 4 and 8 warps read in other pieces.
    return replace(shapes, heights=shapes.heights[-1:]) if borrows_hopper(capability) else shapes


def table_of(capability: int) -> int:
    """Which part of TENSOR_CORES serves a GPU of this capability."""
    return 90 if capability == 90 or borrows_hopper(capability) else 80


def borrows_hopper(capability: int) -> bool:
    """Data-centre GPUs after Hopper, which nobody has measured yet."""
    return 100 <= capability < 120
