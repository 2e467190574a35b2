"""Rows in fp8, on a GPU: what norms and gates end with, and a kernel for rows that come from elsewhere."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from preftree.kernels.launch import assert_aligned
from preftree.kernels.quantized.fp8 import FP8, LARGEST, LEAST, Fp8Rows

_LARGEST, _LEAST = tl.constexpr(LARGEST), tl.constexpr(LEAST)
# Elements of a row that a program has in registers at a time, eight a thread.
BLOCK = 2048
NUM_WARPS = 8


@triton.jit
def store_fp8(b_row, b_largest, p_row, mask):  # type: ignore[no-untyped-def]
    """Store part of a row of float32 whose largest number is `b_largest`. Returns the row's scale."""
    b_largest = tl.maximum(b_largest, _LEAST)
    b_levels = (b_row * tl.div_rn(_LARGEST, b_largest)).to(tl.float8e4nv)
    tl.store(p_row, b_levels, mask=mask)
    return tl.div_rn(b_largest, _LARGEST)


@triton.jit
def fp8_rows_kernel(p_x, p_out, p_scale, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Twice over the row, the second time in the cache."""
    i_row = tl.program_id(0).to(tl.int64)
    p_row = p_x + i_row * width
    # [BLOCK]
    o_block = tl.arange(0, BLOCK)
    b_largest = tl.zeros([BLOCK], tl.float32)
    for first in range(0, width, BLOCK):
        b_x = tl.load(p_row + first + o_block, mask=first + o_block < width, other=0.0).to(tl.float32)
        b_largest = tl.maximum(b_largest, tl.abs(b_x))
    largest = tl.max(b_largest, 0)
    scale = 0.0
    for first in range(0, width, BLOCK):
        m_block = first + o_block < width
        b_x = tl.load(p_row + first + o_block, mask=m_block, other=0.0).to(tl.float32)
        scale = store_fp8(b_x, largest, p_out + i_row * width + first + o_block, m_block)
    tl.store(p_scale + i_row, scale)


def fp8_rows(x: torch.Tensor) -> Fp8Rows:
    """`quantized.fp8.quantize_rows` of x [rows, in]."""
    assert x.is_contiguous()
    assert_aligned(x)
    out = empty_fp8_rows(len(x), x.shape[1], like=x)
    with torch.cuda.device_of(x):
        fp8_rows_kernel[(len(x),)](
            x, out.levels, out.scale, x.shape[1], BLOCK=BLOCK, num_warps=NUM_WARPS, enable_fp_fusion=False
        )
    return out


def empty_fp8_rows(rows: int, width: int, like: torch.Tensor) -> Fp8Rows:
    """What a kernel writes to. like: what the rows are made of."""
    scale = torch.empty(rows, dtype=torch.float32, device=like.device)
    return Fp8Rows(torch.empty(rows, width, dtype=FP8, device=like.device), scale, like.dtype)
