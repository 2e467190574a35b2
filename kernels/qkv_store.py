"""Queries, keys and values of one product: norms of heads, rotary embedding, the writes, in one pass over the rows."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from preftree.kernels.launch import assert_aligned
from preftree.kernels.rope_store import NUM_WARPS, place_heads, settings

Angles = tuple[torch.Tensor, torch.Tensor]


# The number of rows differs from batch to batch; heads only divide.
@triton.jit(do_not_specialize=["rows", "query_heads", "kv_heads"])
def rope_qkv_kernel(  # type: ignore[no-untyped-def]
    p_x, p_query_cos, p_query_sin, p_key_cos, p_key_sin, p_query_norm, p_key_norm, p_queries, p_kv, p_slots, eps,
    rows, query_heads, kv_heads, x_row_stride, query_row_stride, kv_row_stride, value_stride, SIZE: tl.constexpr,
    BLOCK_UNITS: tl.constexpr, BLOCK_HALF: tl.constexpr, HAS_NORM: tl.constexpr, HAS_SLOTS: tl.constexpr,
):  # fmt: skip
    """The first programs take queries, the others keys and values.

    Were a program to take both kinds, each unit would choose its pointers, and what is chosen is loaded and stored
    number by number instead of 16 bytes at a time.
    """
    i_block = tl.program_id(0)
    query_blocks = tl.cdiv(rows * query_heads, BLOCK_UNITS)
    if i_block < query_blocks:
        place_heads(
            i_block, p_x, p_query_cos, p_query_sin, p_query_norm, p_queries, p_slots, eps, rows * query_heads,
            query_heads, x_row_stride, query_row_stride, 0, SIZE, BLOCK_UNITS, BLOCK_HALF, HAS_NORM, False, False,
        )  # fmt: skip
    else:
        place_heads(
            i_block - query_blocks, p_x + query_heads * SIZE, p_key_cos, p_key_sin, p_key_norm, p_kv, p_slots, eps,
            rows * kv_heads, kv_heads, x_row_stride, kv_row_stride, value_stride, SIZE, BLOCK_UNITS, BLOCK_HALF,
            HAS_NORM, True, HAS_SLOTS,
        )  # fmt: skip


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
    assert rows * (heads + kv_heads) + 2 * block_units <= 2**31, "units are counted in 32 bits"
    blocks = triton.cdiv(rows * heads, block_units) + triton.cdiv(rows * kv_heads, block_units)
    with torch.cuda.device_of(x):
        rope_qkv_kernel[(blocks,)](
            x, *of_queries, *of_keys, *(norms or (None, None)), queries, kv, slots, eps, rows, heads, kv_heads,
            x.stride(0), queries.stride(0), kv.stride(0), kv.stride(1),
            SIZE=size, BLOCK_UNITS=block_units, BLOCK_HALF=block_half, HAS_NORM=norms is not None,
            HAS_SLOTS=slots is not None, num_warps=NUM_WARPS, enable_fp_fusion=False,
        )  # fmt: skip
