"""Queries, keys and values of one product: norms of heads, rotary embedding, the writes, in one pass over the rows."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from preftree.kernels.launch import assert_aligned
from preftree.kernels.rope_store import NUM_WARPS, settings, turned_halves

Angles = tuple[torch.Tensor, torch.Tensor]


# The number of rows differs from batch to batch; heads only divide.
@triton.jit(do_not_specialize=["units", "query_heads", "kv_heads"])
def rope_qkv_kernel(  # type: ignore[no-untyped-def]
    p_x, p_query_cos, p_query_sin, p_key_cos, p_key_sin, p_query_norm, p_key_norm, p_queries, p_kv, p_slots, eps,
    units, query_heads, kv_heads, SIZE: tl.constexpr, BLOCK_UNITS: tl.constexpr, BLOCK_HALF: tl.constexpr,
    HAS_NORM: tl.constexpr, HAS_SLOTS: tl.constexpr,
):  # fmt: skip
    """A unit is one query or key head of one row; a key's copies the value of its head besides.

    x: [rows, query heads, key heads, value heads]. With HAS_SLOTS, p_slots says which row of K/V each row goes to.
    """
    HALF: tl.constexpr = SIZE // 2
    # [BLOCK_UNITS, 1]
    o_unit = (tl.program_id(0) * BLOCK_UNITS + tl.arange(0, BLOCK_UNITS))[:, None]
    heads = query_heads + kv_heads
    o_row = (o_unit // heads).to(tl.int64)
    o_head = o_unit % heads
    is_key = o_head >= query_heads
    # [1, BLOCK_HALF]
    o_dim = tl.arange(0, BLOCK_HALF)[None, :]
    # [BLOCK_UNITS, BLOCK_HALF]
    m_half = (o_unit < units) & (o_dim < HALF)
    o_angle = o_row * HALF + o_dim
    p_left = p_x + (o_row * (heads + kv_heads) + o_head) * SIZE + o_dim
    p_cos = tl.where(is_key, p_key_cos, p_query_cos) + o_angle
    p_sin = tl.where(is_key, p_key_sin, p_query_sin) + o_angle
    p_weight = tl.where(is_key, p_key_norm, p_query_norm) + o_dim if HAS_NORM else p_left
    b_left, b_right = turned_halves(p_left, p_cos, p_sin, p_weight, eps, m_half, m_half, SIZE, HAS_NORM)
    o_slot = tl.load(p_slots + o_row, mask=o_unit < units, other=0) if HAS_SLOTS else o_row
    p_query = p_queries + (o_row * query_heads + o_head) * SIZE
    p_key = p_kv + (o_slot * 2 * kv_heads + o_head - query_heads) * SIZE
    p_to = tl.where(is_key, p_key, p_query) + o_dim
    dtype = p_queries.dtype.element_ty
    tl.store(p_to, b_left.to(dtype), mask=m_half)
    tl.store(p_to + HALF, b_right.to(dtype), mask=m_half)
    m_value = m_half & is_key
    p_value = p_left + kv_heads * SIZE
    p_to += kv_heads * SIZE
    tl.store(p_to, tl.load(p_value, mask=m_value), mask=m_value)
    tl.store(p_to + HALF, tl.load(p_value + HALF, mask=m_value), mask=m_value)


def store_qkv(
    x: torch.Tensor,
    of_queries: Angles,
    of_keys: Angles,
    queries: torch.Tensor,
    kv: torch.Tensor,
    norms: tuple[torch.Tensor, torch.Tensor] | None = None,
    eps: float = 0.0,
    slots: torch.Tensor | None = None,
) -> None:
    """What `rotate` does to the queries of x, and `store_kv` to its keys and values: the same bits, in one launch.

    x: [rows, (heads + 2 * kv_heads) * size], queries first. of_queries, of_keys: cos and sin to rotate with, [rows,
    size / 2] each. queries: [rows, heads, size]. kv: [slots, 2, kv_heads, size]. norms: of queries and of keys, [size]
    each. slots: [rows] int64, where each row's K/V goes; None for row r into slot r of as many. All contiguous.
    """
    rows, heads, size = queries.shape
    kv_heads = kv.shape[2]
    assert kv.shape == (rows if slots is None else len(kv), 2, kv_heads, size)
    assert x.shape == (rows, (heads + 2 * kv_heads) * size)
    assert x.dtype == queries.dtype == kv.dtype
    assert all(one.is_contiguous() for one in (x, queries, kv))
    assert all(one.shape == (rows, size // 2) and one.is_contiguous() for one in (*of_queries, *of_keys))
    assert norms is None or all(one.shape == (size,) and one.is_contiguous() for one in norms)
    assert slots is None or (slots.shape == (rows,) and slots.dtype == torch.int64 and slots.is_contiguous())
    assert_aligned(x, queries, kv, *of_queries, *of_keys)
    block_units, block_half = settings(size)
    units = rows * (heads + kv_heads)
    assert units + block_units <= 2**31, "units are counted in 32 bits"
    with torch.cuda.device_of(x):
        rope_qkv_kernel[(triton.cdiv(units, block_units),)](
            x, *of_queries, *of_keys, *(norms or (None, None)), queries, kv, slots, eps, units, heads, kv_heads,
            SIZE=size, BLOCK_UNITS=block_units, BLOCK_HALF=block_half, HAS_NORM=norms is not None,
            HAS_SLOTS=slots is not None, num_warps=NUM_WARPS, enable_fp_fusion=False,
        )  # fmt: skip
