"""Tree attention as it was with a loop for blocks without a mask and one for the rest, to compare with.

Triton 3.6 serialises its tensor-core instructions on sm_90 and prefetches nothing; its bits are right.
"""

from __future__ import annotations

import triton
import triton.language as tl

from preftree.kernels.attention import NO_KEY_YET
from preftree.kernels.tanh import tanh


@triton.jit
def _attend_block(  # type: ignore[no-untyped-def]
    b_q, b_m, b_l, b_acc, p_slot, p_kv, value_offset, slot_stride, scale, cap_scale, window,
    first_key, end, o_depth, o_d,
    SIZE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, HAS_WINDOW: tl.constexpr, HAS_CAP: tl.constexpr,
    IS_MASKED: tl.constexpr,
):  # fmt: skip
    """Take the keys of depths first_key to first_key + BLOCK_N - 1 into the running maximum, sum and accumulator."""
    o_key = first_key + tl.arange(0, BLOCK_N)
    # [BLOCK_N]
    if IS_MASKED:
        m_key = o_key < end
        b_slot = tl.load(p_slot + o_key, mask=m_key, other=0).to(tl.int64)
    else:
        b_slot = tl.load(p_slot + o_key).to(tl.int64)
    # [BLOCK_N, BLOCK_D]
    p_k = p_kv + b_slot[:, None] * slot_stride + o_d[None, :]
    p_v = p_k + value_offset
    if IS_MASKED:
        m_k = m_key[:, None] & (o_d < SIZE)[None, :]
        b_k = tl.load(p_k, mask=m_k, other=0.0)
        b_v = tl.load(p_v, mask=m_k, other=0.0)
    elif SIZE == BLOCK_D:
        b_k = tl.load(p_k)
        b_v = tl.load(p_v)
    else:
        b_k = tl.load(p_k, mask=(o_d < SIZE)[None, :], other=0.0)
        b_v = tl.load(p_v, mask=(o_d < SIZE)[None, :], other=0.0)
    # [BLOCK_M, BLOCK_N]
    b_s = tl.dot(b_q, tl.trans(b_k), input_precision="ieee")
    if HAS_CAP:
        b_s = tanh(b_s * cap_scale)
    if IS_MASKED:
        m_s = o_key[None, :] <= o_depth[:, None]
        if HAS_WINDOW:
            m_s = m_s & (o_key[None, :] > o_depth[:, None] - window)
        b_s = tl.where(m_s, b_s, float("-inf"))
    # [BLOCK_M]. Without a window finite from the first block on, as every row sees depth 0; so -inf minus -inf does not
    # arise.
    b_max = tl.maximum(b_m, tl.max(b_s, 1) * scale)
    b_correction = tl.exp2(b_m - b_max)
    # [BLOCK_M, BLOCK_N]
    b_p = tl.exp2(tl.fma(b_s, scale, -b_max[:, None]))
    b_l = tl.fma(b_l, b_correction, tl.sum(b_p, 1))
    # [BLOCK_M, BLOCK_D]
    b_acc = tl.dot(b_p.to(b_v.dtype), b_v, b_acc * b_correction[:, None], input_precision="ieee")
    return b_max, b_l, b_acc


# Sizes of the model: their values make no better code, and code of their own for 1 would be one more thing to prove.
@triton.jit(do_not_specialize=["group", "kv_heads", "window"])
def tree_attention_kernel(  # type: ignore[no-untyped-def]
    p_queries, p_kv, p_sinks, p_out, p_first_row, p_num_rows, p_first_depth, p_path, p_slots, scale, cap_scale, group,
    kv_heads, window, SIZE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    HAS_WINDOW: tl.constexpr, HAS_CAP: tl.constexpr, HAS_SINKS: tl.constexpr, MASKS_ALL: tl.constexpr,
):  # fmt: skip
    """One tile and one K/V head, without sinks. Packed row r is head r % group of the tile's token r // group.

    Scores times `scale` are exponents of 2; with HAS_CAP, tanh(score * cap_scale) takes a score's place.
    """
    i_tile = tl.program_id(0)
    i_kv_head = tl.program_id(1)
    first_row = tl.load(p_first_row + i_tile)
    num_rows = tl.load(p_num_rows + i_tile)
    first_depth = tl.load(p_first_depth + i_tile)
    end = first_depth + num_rows
    p_slot = p_slots + tl.load(p_path + i_tile)
    p_kv += i_kv_head * SIZE
    value_offset = kv_heads * SIZE

    o_m = tl.arange(0, BLOCK_M)
    o_d = tl.arange(0, BLOCK_D)
    o_token = o_m // group
    o_depth = first_depth + o_token
    # [BLOCK_M, BLOCK_D]
    o_packed = (first_row + o_token).to(tl.int64) * (kv_heads * group) + i_kv_head * group + o_m % group
    o_q = o_packed[:, None] * SIZE + o_d[None, :]
    m_q = (o_token < num_rows)[:, None] & (o_d < SIZE)[None, :]
    b_q = tl.load(p_queries + o_q, mask=m_q, other=0.0)

    b_m = tl.full([BLOCK_M], NO_KEY_YET if HAS_WINDOW else float("-inf"), dtype=tl.float32)
    b_l = tl.zeros([BLOCK_M], dtype=tl.float32)
    b_acc = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    if HAS_WINDOW:
        # All blocks from the first row's window on take the mask: code for those that need none spills in low tiles.
        first_masked = tl.maximum(first_depth - window + 1, 0) // BLOCK_N * BLOCK_N
    else:
        # Blocks whose every key is visible to the tile's first row come before those that the causal mask or the path's
        # end cuts.
        first_masked = (first_depth + 1) // BLOCK_N * BLOCK_N
        for first_key in range(0, first_masked, BLOCK_N):
            b_m, b_l, b_acc = _attend_block(
                b_q, b_m, b_l, b_acc, p_slot, p_kv, value_offset, 2 * value_offset, scale, cap_scale, window,
                first_key, end, o_depth, o_d, SIZE, BLOCK_N, BLOCK_D, HAS_WINDOW, HAS_CAP, IS_MASKED=False,
            )  # fmt: skip
    for first_key in range(first_masked, end, BLOCK_N):
        b_m, b_l, b_acc = _attend_block(
            b_q, b_m, b_l, b_acc, p_slot, p_kv, value_offset, 2 * value_offset, scale, cap_scale, window,
            first_key, end, o_depth, o_d, SIZE, BLOCK_N, BLOCK_D, HAS_WINDOW, HAS_CAP, IS_MASKED=True,
        )  # fmt: skip
    b_out = b_acc / b_l[:, None]
    tl.store(p_out + o_q, b_out.to(p_out.dtype.element_ty), mask=m_q)
