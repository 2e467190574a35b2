"""Mixtures of experts on a GPU: the products of all experts in one launch each, and their weighted sums.

Pairs of a row and an expert are sorted by expert. A tile is a fixed number of pairs of one expert; which tiles there
are is worked out on the device, in a grid of as many as there may be at most. A row takes the same steps through a
product wherever it lies in a tile, and adds up its experts in ascending order: its bits depend on no other row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from preftree.kernels.fp8_rows import fp8_rows
from preftree.kernels.gated import activated
from preftree.kernels.launch import assert_aligned, capability_of, table_of
from preftree.kernels.quantized.fp8 import Fp8Rows
from preftree.kernels.routing import ExpertPairs
from preftree.kernels.stacked import Experts, StackedLinear
from preftree.kernels.tiles import Activation


@dataclass(frozen=True)
class ExpertSettings:
    """What a tile of the grouped products is.

    Attributes:
        block_rows: pairs.
        block_in: terms of a sum at a time.
        gated_out: outputs of a gate, and as many of what it multiplies.
        linear_out: outputs of any other product.
        num_warps: warps of a program.
        num_stages: buffers in flight, as in `AttentionSettings`.
    """

    block_rows: int
    block_in: int
    gated_out: int
    linear_out: int
    num_warps: int
    num_stages: int


# A row's bits depend on the tile, so there is one for each table of tensor cores. On sm_90 a warp group multiplies at
# its full rate from 128 outputs on; sm_80 has to fit the 99 KiB of the smaller cards that fall back to it.
TENSOR_CORES = {
    80: ExpertSettings(128, 64, gated_out=64, linear_out=128, num_warps=8, num_stages=3),
    90: ExpertSettings(128, 64, gated_out=128, linear_out=256, num_warps=8, num_stages=3),
}
# Tensor cores sum fp8 in fewer bits than float32 has; every block of terms is summed there, blocks in float32. That
# takes registers for another tile: with twice the outputs it spills.
FP8 = {
    80: ExpertSettings(128, 128, gated_out=64, linear_out=128, num_warps=8, num_stages=3),
    90: ExpertSettings(128, 128, gated_out=64, linear_out=128, num_warps=8, num_stages=4),
}
FLOAT32 = ExpertSettings(64, 32, gated_out=32, linear_out=64, num_warps=8, num_stages=2)
# Outputs of a program that adds up a row's experts.
COMBINE_BLOCK = 1024
COMBINE_WARPS = 4


@triton.jit(do_not_specialize=["experts"])
def expert_product_kernel(  # type: ignore[no-untyped-def]
    p_x,
    p_x_scale,
    p_rows,
    p_weight,
    p_weight_scale,
    p_bias,
    p_out,
    p_starts,
    p_first_tiles,
    p_tile_experts,
    experts,
    inputs,
    outputs,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    EVEN_IN: tl.constexpr,
    HAS_ROWS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ACTIVATION: tl.constexpr,
):
    """A tile of pairs through one linear layer of their expert, or through gate and up: see `expert_products`.

    Blocks of outputs are the fast axis of the grid: programs that run together share rows, and an expert's weights, in
    L2. With scales, x and weights are in fp8.
    """
    i_tile = tl.program_id(1)
    i_expert = tl.load(p_tile_experts + i_tile)
    if i_expert == experts:
        return
    end = tl.load(p_starts + i_expert + 1)
    first = tl.load(p_starts + i_expert) + (i_tile - tl.load(p_first_tiles + i_expert)) * BLOCK_ROWS
    # [BLOCK_ROWS]. Beyond the last pair (and output) the last one is read again: copies need no mask.
    o_pair = tl.arange(0, BLOCK_ROWS)
    left = (end - first).to(tl.int32)
    b_row = first + tl.minimum(o_pair, left - 1)
    if HAS_ROWS:
        b_row = tl.load(p_rows + b_row)
    # [BLOCK_OUT]
    o_out = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    o_weight = tl.minimum(o_out, outputs - 1)
    # [BLOCK_IN]
    o_in = tl.arange(0, BLOCK_IN)
    p_rows_in = p_x + b_row[:, None] * inputs + o_in[None, :]
    if p_x_scale is not None:
        b_x_scale = tl.load(p_x_scale + b_row)
    # [BLOCK_IN, BLOCK_OUT]
    o_own = o_weight[None, :] * inputs + o_in[:, None]
    halves = 1 if ACTIVATION == "none" else 2
    p_own = p_weight + i_expert * halves * outputs * inputs
    p_own_up = p_own + outputs * inputs
    # [BLOCK_ROWS, BLOCK_OUT]
    b_sum = tl.zeros([BLOCK_ROWS, BLOCK_OUT], tl.float32)
    b_up_sum = tl.zeros([BLOCK_ROWS, BLOCK_OUT], tl.float32)
    for i_in in range(0, inputs, BLOCK_IN):
        m_in = i_in + o_in < inputs
        if EVEN_IN:
            b_x = tl.load(p_rows_in + i_in)
            b_weight = tl.load(p_own + i_in + o_own)
        else:
            b_x = tl.load(p_rows_in + i_in, mask=m_in[None, :], other=0.0)
            b_weight = tl.load(p_own + i_in + o_own, mask=m_in[:, None], other=0.0)
        if p_x_scale is not None:
            # Scaled at once, as in `fp8_product_kernel`: the compiler would have tensor cores add up all blocks else.
            b_sum += tl.dot(b_x, b_weight) * b_x_scale[:, None]
        else:
            b_sum = tl.dot(b_x, b_weight, b_sum, input_precision="ieee")
        if ACTIVATION != "none":
            if EVEN_IN:
                b_up = tl.load(p_own_up + i_in + o_own)
            else:
                b_up = tl.load(p_own_up + i_in + o_own, mask=m_in[:, None], other=0.0)
            if p_x_scale is not None:
                b_up_sum += tl.dot(b_x, b_up) * b_x_scale[:, None]
            else:
                b_up_sum = tl.dot(b_x, b_up, b_up_sum, input_precision="ieee")
    o_vector = i_expert * halves * outputs + o_weight
    if p_weight_scale is not None:
        b_sum *= tl.load(p_weight_scale + o_vector)[None, :]
        if ACTIVATION != "none":
            b_up_sum *= tl.load(p_weight_scale + o_vector + outputs)[None, :]
    if HAS_BIAS:
        p_own_bias = p_bias + o_vector
        b_sum += tl.load(p_own_bias).to(tl.float32)[None, :]
        if ACTIVATION != "none":
            b_up_sum += tl.load(p_own_bias + outputs).to(tl.float32)[None, :]
    if ACTIVATION != "none":
        b_sum = activated(b_sum, b_up_sum, ACTIVATION)
    m_out = (o_pair < left)[:, None] & (o_out < outputs)[None, :]
    p_own_out = p_out + first * outputs
    tl.store(p_own_out + (o_pair[:, None] * outputs + o_out[None, :]), b_sum.to(p_out.dtype.element_ty), mask=m_out)


@triton.jit
def combine_experts_kernel(  # type: ignore[no-untyped-def]
    p_products,
    p_places,
    p_weights,
    p_out,
    width,
    PER_ROW: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Weighted sum of a row's experts, one after the other."""
    i_row = tl.program_id(0).to(tl.int64)
    # [BLOCK]
    o_width = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    m_width = o_width < width
    b_sum = tl.zeros([BLOCK], tl.float32)
    for i_expert in tl.static_range(PER_ROW):
        place = tl.load(p_places + i_row * PER_ROW + i_expert)
        weight = tl.load(p_weights + i_row * PER_ROW + i_expert)
        b_sum += weight * tl.load(p_products + place * width + o_width, mask=m_width, other=0.0).to(tl.float32)
    tl.store(p_out + i_row * width + o_width, b_sum.to(p_out.dtype.element_ty), mask=m_width)


def expert_products(
    x: torch.Tensor,
    pairs: ExpertPairs,
    experts: Experts,
    activation: Activation,
    out: torch.Tensor,
    row_block: int | None = None,
) -> None:
    """The MLP of each pair's expert, into out [pairs, hidden].

    x: [rows, hidden]. pairs: from `sort_by_expert`. activation: of the gate, see `gated`. row_block: of the operation
    of the same name on a CPU; tiles have a height of their own.
    """
    assert x.is_contiguous()
    assert_aligned(x, experts.gate_up.weight, experts.down.weight)
    is_fp8 = experts.gate_up.scale is not None
    assert is_fp8 or x.dtype == experts.gate_up.weight.dtype
    settings = settings_of(x.device, x.dtype, is_fp8)
    tiles = _tiles(pairs, settings.block_rows)
    with torch.cuda.device_of(x):
        inner = x.new_empty(len(out), experts.down.weight.shape[2])
        _multiply(fp8_rows(x) if is_fp8 else x, pairs, experts.gate_up, tiles, settings, activation, inner)
        _multiply(fp8_rows(inner) if is_fp8 else inner, pairs, experts.down, tiles, settings, None, out)


def combine_experts(products: torch.Tensor, pairs: ExpertPairs) -> torch.Tensor:
    """Each row's experts, times their weights, added up in float32 in ascending order: [rows, hidden].

    products: [pairs, hidden], from `expert_products`.
    """
    rows, per_row = pairs.places.shape
    width = products.shape[1]
    assert products.is_contiguous()
    assert pairs.places.is_contiguous()
    assert pairs.weights.is_contiguous()
    out = products.new_empty(rows, width)
    with torch.cuda.device_of(products):
        combine_experts_kernel[(rows, triton.cdiv(width, COMBINE_BLOCK))](
            products,
            pairs.places,
            pairs.weights,
            out,
            width,
            PER_ROW=per_row,
            BLOCK=COMBINE_BLOCK,
            num_warps=COMBINE_WARPS,
            enable_fp_fusion=False,
        )
    return out


def settings_of(device: torch.device, dtype: torch.dtype, is_fp8: bool = False) -> ExpertSettings:
    """The tile of a device. dtype: of activations. is_fp8: whether products are in fp8."""
    if is_fp8:
        return FP8[table_of(capability_of(device))]
    return FLOAT32 if dtype == torch.float32 else TENSOR_CORES[table_of(capability_of(device))]


@dataclass(frozen=True)
class _Tiles:
    """first: [experts], the first tile of each. experts: [tiles], whose each is; the number of experts for those that
    are left over."""

    first: torch.Tensor
    experts: torch.Tensor


def _tiles(pairs: ExpertPairs, block_rows: int) -> _Tiles:
    """As many tiles as there can be: the host does not know how many there are."""
    counts = (pairs.starts.diff() + (block_rows - 1)) // block_rows
    ends = counts.cumsum(0)
    most = len(pairs.rows) // block_rows + len(counts)
    return _Tiles(ends - counts, torch.searchsorted(ends, torch.arange(most, device=ends.device), right=True))


def _multiply(
    x: torch.Tensor | Fp8Rows,
    pairs: ExpertPairs,
    layer: StackedLinear,
    tiles: _Tiles,
    settings: ExpertSettings,
    activation: Activation | None,
    out: torch.Tensor,
) -> None:
    """A linear layer of each pair's expert. activation: None for x of pairs, else x is of rows and the layer a gate."""
    experts, outputs, inputs = layer.weight.shape
    outputs //= 1 if activation is None else 2
    block_out = settings.linear_out if activation is None else settings.gated_out
    assert out.shape == (len(pairs.rows), outputs)
    assert out.is_contiguous()
    numbers, scale = (x.levels, x.scale) if isinstance(x, Fp8Rows) else (x, None)
    expert_product_kernel[(triton.cdiv(outputs, block_out), len(tiles.experts))](
        numbers,
        scale,
        pairs.rows,
        layer.weight,
        layer.scale,
        layer.bias,
        out,
        pairs.starts,
        tiles.first,
        tiles.experts,
        experts,
        inputs,
        outputs,
        BLOCK_ROWS=settings.block_rows,
        BLOCK_OUT=block_out,
        BLOCK_IN=settings.block_in,
        EVEN_IN=inputs % settings.block_in == 0,
        HAS_ROWS=activation is not None,
        HAS_BIAS=layer.bias is not None,
        ACTIVATION=activation or "none",
        num_warps=settings.num_warps,
        num_stages=settings.num_stages,
        enable_fp_fusion=False,
    )
