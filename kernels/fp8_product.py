"""Products of rows and weights in fp8 in Triton: one order of sums, whatever the number of rows.

The library's product is faster, but only promises the bits of today's version for today's shapes. Here every tile of
the result is summed by one program in ascending blocks of inputs, and no sum is split.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl

from preftree.kernels.quantized.fp8 import Fp8Linear, Fp8Rows

# Tensor cores sum fp8 in fewer bits than float32 has; every block of inputs is summed there, blocks in float32.
BLOCK_M, BLOCK_N, BLOCK_K = 128, 128, 128
NUM_WARPS, NUM_STAGES = 8, 4
# Tiles of rows that programs take before they go on to other outputs: their rows and weights stay in the cache.
GROUP = 8


@triton.jit(do_not_specialize=["rows", "programs"])
def fp8_product_kernel(  # type: ignore[no-untyped-def]
    p_x,
    p_x_scale,
    p_weight,
    p_weight_scale,
    p_bias,
    p_out,
    rows,
    outputs,
    inputs,
    programs,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
    HAS_TAIL: tl.constexpr,
):
    """HAS_TAIL: the last block of inputs is not whole."""
    tiles_m, tiles_n = tl.cdiv(rows, BLOCK_M), tl.cdiv(outputs, BLOCK_N)
    o_k = tl.arange(0, BLOCK_K)
    for tile in range(tl.program_id(0), tiles_m * tiles_n, programs):
        first_m = tile // (GROUP * tiles_n) * GROUP
        height = tl.minimum(tiles_m - first_m, GROUP)
        within = tile % (GROUP * tiles_n)
        o_m = (first_m + within % height) * BLOCK_M + tl.arange(0, BLOCK_M)
        o_n = within // height * BLOCK_N + tl.arange(0, BLOCK_N)
        # Rows and outputs beyond the end are the last ones again: their results are not stored.
        p_x_block = p_x + tl.minimum(o_m, rows - 1).to(tl.int64)[:, None] * inputs + o_k[None, :]
        p_weight_block = p_weight + tl.minimum(o_n, outputs - 1).to(tl.int64)[:, None] * inputs + o_k[None, :]
        b_x_scale = tl.load(p_x_scale + tl.minimum(o_m, rows - 1))
        # [BLOCK_M, BLOCK_N]
        b_sum = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for first_k in range(0, inputs, BLOCK_K):
            if HAS_TAIL:
                m_k = (first_k + o_k < inputs)[None, :]
                b_x = tl.load(p_x_block + first_k, mask=m_k, other=0.0)
                b_weight = tl.load(p_weight_block + first_k, mask=m_k, other=0.0)
            else:
                b_x, b_weight = tl.load(p_x_block + first_k), tl.load(p_weight_block + first_k)
            # Scaled at once, in the instruction that adds: the compiler would have tensor cores add up all blocks else.
            b_sum += tl.dot(b_x, tl.trans(b_weight)) * b_x_scale[:, None]
        m_n = o_n < outputs
        b_sum *= tl.load(p_weight_scale + o_n, mask=m_n, other=0.0)[None, :]
        if p_bias is not None:
            b_sum += tl.load(p_bias + o_n, mask=m_n, other=0.0).to(tl.float32)[None, :]
        p_tile = p_out + o_m.to(tl.int64)[:, None] * outputs + o_n[None, :]
        tl.store(p_tile, b_sum.to(p_out.dtype.element_ty), mask=(o_m < rows)[:, None] & m_n[None, :])


def fp8_product(x: Fp8Rows, packed: Fp8Linear, out: torch.Tensor) -> None:
    """x [rows, in] times the transposed weight, plus the bias, into out [rows, out]."""
    (rows, inputs), outputs = x.levels.shape, len(packed.weight.levels)
    assert packed.weight.levels.shape[1] == inputs
    assert inputs % 16 == 0, f"rows of {inputs} numbers are no multiple of 16"
    assert x.levels.is_contiguous()
    assert packed.weight.levels.is_contiguous()
    assert out.shape == (rows, outputs)
    assert out.is_contiguous()
    programs = _multiprocessors(out.device)
    with torch.cuda.device_of(out):
        fp8_product_kernel[(min(programs, triton.cdiv(rows, BLOCK_M) * triton.cdiv(outputs, BLOCK_N)),)](
            x.levels,
            x.scale,
            packed.weight.levels,
            packed.weight.scale,
            packed.bias,
            out,
            rows,
            outputs,
            inputs,
            programs,
            BLOCK_M=BLOCK_M,
            BLOCK_N=BLOCK_N,
            BLOCK_K=BLOCK_K,
            GROUP=GROUP,
            HAS_TAIL=inputs % BLOCK_K != 0,
            num_warps=NUM_WARPS,
            num_stages=NUM_STAGES,
        )


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    """Programs that run at a time, one on each; in the interpreter two, so that a program has several tiles."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2
