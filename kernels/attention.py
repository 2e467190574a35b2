"""Tree attention on a GPU: every tile of query rows walks the list of slots on its path, from depth 0 downwards.

Online softmax over key blocks after FlashAttention (Dao, 2023), in base 2.

A row's bits are a function of its query and of the keys and values on its path, whatever tile it sits in (but for tiles
of single tokens, which may have settings of their own, see `launch.SINGLE_TOKENS`):
- key blocks are counted from depth 0 and taken in depth order, so a key has the same place in every sum;
- a block that lies wholly after a row, visited for the sake of deeper rows of its tile, leaves the row's maximum,
  sum and accumulator as they are: probabilities are exact zeros and the correction is exactly one;
- with a window, blocks before the first row's are left out, and one that lies wholly before a deeper row's window
  leaves that row as it was: nothing is in its sums yet, and what the block adds are exact zeros;
- a head's sink joins a row's sum once, when all keys of the path have;
- blocks with and without a mask run the same arithmetic. Multiply-adds are written as `fma` and the compiler may form
  no others: it might fuse `score * scale - maximum` where no mask stands between, and not elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from preftree.kernels.launch import DTYPES, AttentionSettings, assert_aligned, attention_settings, capability_of
from preftree.kernels.tanh import tanh
from preftree.kernels.tiles import PathTiles

LOG2_E = tl.constexpr(1.4426950408889634)
# Below every score, and finite: a row that has seen no key yet must not subtract infinities.
NO_KEY_YET = tl.constexpr(-1e38)


# Sizes of the model: their values make no better code, and code of their own for 1 would be one more thing to prove.
@triton.jit(do_not_specialize=["group", "kv_heads", "window"])
def tree_attention_kernel(  # type: ignore[no-untyped-def]
    p_queries, p_kv, p_sinks, p_out, p_first_row, p_num_rows, p_first_depth, p_path, p_slots, scale, cap_scale, group,
    kv_heads, window, SIZE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr,
    HAS_WINDOW: tl.constexpr, HAS_CAP: tl.constexpr, HAS_SINKS: tl.constexpr, MASKS_ALL: tl.constexpr,
):  # fmt: skip
    """One tile and one K/V head. Packed row r is head r % group of the tile's token r // group.

    Scores times `scale` are exponents of 2; with HAS_CAP, tanh(score * cap_scale) takes a score's place. Sinks are
    exponents of e.
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
    # Blocks whose every key is visible to the tile's first row come before those that the causal mask or the path's end
    # cuts.
    first_masked = (first_depth + 1) // BLOCK_N * BLOCK_N
    if HAS_WINDOW:
        first_block = tl.maximum(first_depth - window + 1, 0) // BLOCK_N * BLOCK_N
        # Up to here the windows of the tile's rows begin.
        first_whole = end - window
    else:
        first_block = 0
    # One loop, and slots loaded one iteration early: with a loop of its own for masked blocks, or with loads that wait
    # for loads, Triton 3.6 serialises the tensor cores' instructions and prefetches nothing.
    o_n = tl.arange(0, BLOCK_N)
    b_slot = tl.load(p_slot + tl.minimum(first_block + o_n, end - 1))
    for first_key in range(first_block, end, BLOCK_N):
        o_key = first_key + o_n
        # [BLOCK_N, BLOCK_D]. Beyond the path's end the last row is read again, and masked.
        p_k = p_kv + b_slot.to(tl.int64)[:, None] * (2 * value_offset) + o_d[None, :]
        if SIZE == BLOCK_D:
            b_k = tl.load(p_k)
            b_v = tl.load(p_k + value_offset)
        else:
            b_k = tl.load(p_k, mask=(o_d < SIZE)[None, :], other=0.0)
            b_v = tl.load(p_k + value_offset, mask=(o_d < SIZE)[None, :], other=0.0)
        b_slot = tl.load(p_slot + tl.minimum(o_key + BLOCK_N, end - 1))
        # [BLOCK_M, BLOCK_N]
        b_s = tl.dot(b_q, tl.trans(b_k), input_precision="ieee")
        if HAS_CAP:
            b_s = tanh(b_s * cap_scale)
        if MASKS_ALL:
            if HAS_WINDOW:
                b_s = tl.where(o_depth[:, None] - o_key[None, :] < window, b_s, float("-inf"))
            b_s = tl.where(o_depth[:, None] - o_key[None, :] >= 0, b_s, float("-inf"))
        else:
            # Each mask where a block needs it, as a bound on the distance from key to row. With both masks under one
            # condition, or with depths compared instead of a distance, some sizes spill registers.
            if HAS_WINDOW:  # noqa: SIM102 (decided when the kernel is compiled)
                if first_key < first_whole:
                    b_s = tl.where(o_depth[:, None] - o_key[None, :] < window, b_s, float("-inf"))
            if first_key >= first_masked:
                b_s = tl.where(o_depth[:, None] - o_key[None, :] >= 0, b_s, float("-inf"))
        # [BLOCK_M]. Without a window finite from the first block on, as every row sees depth 0; so -inf minus -inf does
        # not arise.
        b_max = tl.maximum(b_m, tl.max(b_s, 1) * scale)
        b_correction = tl.exp2(b_m - b_max)
        # [BLOCK_M, BLOCK_N]
        b_p = tl.exp2(tl.fma(b_s, scale, -b_max[:, None]))
        b_l = tl.fma(b_l, b_correction, tl.sum(b_p, 1))
        # [BLOCK_M, BLOCK_D]
        b_acc = tl.dot(b_p.to(b_v.dtype), b_v, b_acc * b_correction[:, None], input_precision="ieee")
        b_m = b_max
    if HAS_SINKS:
        # A sink far above all scores makes the sum infinite, and the result 0: what is left of it in float32.
        b_l += tl.exp2(tl.fma(tl.load(p_sinks + i_kv_head * group + o_m % group), LOG2_E, -b_m))
    b_out = b_acc / b_l[:, None]
    tl.store(p_out + o_q, b_out.to(p_out.dtype.element_ty), mask=m_q)


def tree_attention(
    queries: torch.Tensor,
    kv: torch.Tensor,
    tiles: PathTiles | Sequence[PathTiles],
    out: torch.Tensor,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> None:
    """Causal attention of every tile's rows over their path.

    queries: [rows, heads, size]. kv: [slots, 2, kv_heads, size], keys then values. tiles: one launch for each height.
    out: like queries, may be queries itself; rows that are in no tile stay as they are. All contiguous, in one of
    bfloat16, float16, float32.
    scale: of scores, None for one over the root of the size. window: how many last tokens of its path a row sees,
    itself included. softcap: c of c * tanh(score / c), over scaled scores. sinks: [heads] float32, the score of a key
    without a value that every row sees besides.
    Raises ValueError for a head size or dtype that `kernels.launch` does not list, and for tiles that are too tall.
    """
    _, heads, size = queries.shape
    if queries.dtype not in DTYPES:
        raise ValueError(f"no tree attention for {queries.dtype}; use bfloat16, float16 or float32")
    capability, group = capability_of(queries.device), heads // kv.shape[2]
    for one in [tiles] if isinstance(tiles, PathTiles) else tiles:
        settings = attention_settings(capability, size, queries.element_size(), one.max_rows, group)
        launch_tree_attention(queries, kv, one, out, settings, scale, window, softcap, sinks)


def launch_tree_attention(
    queries: torch.Tensor,
    kv: torch.Tensor,
    tiles: PathTiles,
    out: torch.Tensor,
    settings: AttentionSettings,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> None:
    """`tree_attention` with settings of one's own, for measurements. No tile may be taller than they say."""
    _, heads, size = queries.shape
    kv_heads = kv.shape[2]
    assert kv.shape[1:] == (2, kv_heads, size)
    assert heads % kv_heads == 0
    assert out.shape == queries.shape
    assert queries.dtype == kv.dtype == out.dtype
    assert queries.is_contiguous()
    assert kv.is_contiguous()
    assert out.is_contiguous()
    assert_aligned(queries, kv, out)
    assert sinks is None or (sinks.shape == (heads,) and sinks.dtype == torch.float32 and sinks.is_contiguous())
    assert tiles.slots.dtype == tiles.path.dtype == torch.int32
    if not len(tiles.first_row):
        return
    scale = size**-0.5 if scale is None else scale
    # A capped score is a tanh, which the cap stretches again.
    exponent_scale, cap_scale = (scale, 0.0) if softcap is None else (softcap, scale / softcap)
    with torch.cuda.device_of(queries):
        tree_attention_kernel[(len(tiles.first_row), kv_heads)](
            queries, kv, sinks, out, tiles.first_row, tiles.num_rows, tiles.first_depth, tiles.path, tiles.slots,
            LOG2_E.value * exponent_scale, cap_scale, heads // kv_heads, kv_heads, window or 0,
            SIZE=size, BLOCK_M=settings.block_m, BLOCK_N=settings.block_n, BLOCK_D=triton.next_power_of_2(size),
            HAS_WINDOW=window is not None, HAS_CAP=softcap is not None, HAS_SINKS=sinks is not None,
            MASKS_ALL=settings.masks_all, num_warps=settings.num_warps, num_stages=settings.num_stages,
            enable_fp_fusion=False,
        )  # fmt: skip
