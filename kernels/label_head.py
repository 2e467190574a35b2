"""Logits of single tokens and the log-sum-exp over the vocabulary, without a [rows, vocabulary] tensor.

The vocabulary is cut into ranges of fixed length. A program takes a block of rows through one range and leaves the
rows' maximum and sum there; a second kernel joins the ranges. Where the cuts lie depends on the vocabulary alone, so
the bits of a row depend neither on the number of rows nor on the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from preftree.kernels.launch import assert_aligned
from preftree.kernels.tanh import tanh

LOG2_E = tl.constexpr(1.4426950408889634)


@dataclass(frozen=True)
class HeadSettings:
    """split: tokens of a vocabulary range. block_*: what one tensor-core product takes of rows, tokens and hidden."""

    split: int
    block_rows: int
    block_vocab: int
    block_hidden: int
    num_warps: int
    num_stages: int


# 16 bit: 128 x 128 outputs in 8 warps leave two programs on an SM (96 KiB of 227 each, 163 on sm_80: one); a range of
# 512 tokens makes 251 programs of one block of rows for Llama 3's vocabulary, one wave of two programs on 132 SMs.
# float32 has no tensor cores in IEEE precision, smaller blocks keep it out of spills.
_SIXTEEN_BIT = HeadSettings(split=512, block_rows=128, block_vocab=128, block_hidden=64, num_warps=8, num_stages=3)
_FLOAT32 = HeadSettings(split=512, block_rows=64, block_vocab=64, block_hidden=32, num_warps=8, num_stages=2)
SETTINGS = {torch.bfloat16: _SIXTEEN_BIT, torch.float16: _SIXTEEN_BIT, torch.float32: _FLOAT32}
# A query is one dot product; its program reads two rows of the hidden size.
LOGIT_WARPS = 4
# Joins some hundred numbers a row.
JOIN_WARPS = 1


# The number of rows differs from batch to batch; a kernel that knew it were 1 might sum in another order.
@triton.jit(do_not_specialize=["num_rows", "vocab", "softcap"])
def label_head_split_kernel(  # type: ignore[no-untyped-def]
    p_hidden,
    p_weight,
    p_max,
    p_sum,
    num_rows,
    vocab,
    hidden,
    softcap,
    SPLIT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_VOCAB: tl.constexpr,
    BLOCK_HIDDEN: tl.constexpr,
    EVEN_HIDDEN: tl.constexpr,
    HAS_CAP: tl.constexpr,
):
    """Maximum logit and sum of exp(logit - maximum) of a block of rows over one range of the vocabulary.

    Blocks of rows are the fast axis of the grid: programs that run together share a range of the weight in L2.
    """
    i_split = tl.program_id(1)
    # [BLOCK_ROWS]
    o_row = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    # [BLOCK_HIDDEN]
    o_hidden = tl.arange(0, BLOCK_HIDDEN)
    # [BLOCK_ROWS, BLOCK_HIDDEN]. Beyond the last row (and token) the last one is read again: copies need no mask.
    p_rows = p_hidden + tl.minimum(o_row, num_rows - 1).to(tl.int64)[:, None] * hidden + o_hidden[None, :]
    b_max = tl.full([BLOCK_ROWS], float("-inf"), tl.float32)
    b_sum = tl.zeros([BLOCK_ROWS], tl.float32)
    for i_token in range(i_split * SPLIT, tl.minimum((i_split + 1) * SPLIT, vocab), BLOCK_VOCAB):
        # [BLOCK_VOCAB]
        o_token = i_token + tl.arange(0, BLOCK_VOCAB)
        # [BLOCK_HIDDEN, BLOCK_VOCAB]
        p_tokens = p_weight + tl.minimum(o_token, vocab - 1).to(tl.int64)[None, :] * hidden + o_hidden[:, None]
        # [BLOCK_ROWS, BLOCK_VOCAB]
        b_logits = tl.zeros([BLOCK_ROWS, BLOCK_VOCAB], tl.float32)
        for i_hidden in range(0, hidden, BLOCK_HIDDEN):
            if EVEN_HIDDEN:
                b_rows = tl.load(p_rows + i_hidden)
                b_tokens = tl.load(p_tokens + i_hidden)
            else:
                m_hidden = i_hidden + o_hidden < hidden
                b_rows = tl.load(p_rows + i_hidden, mask=m_hidden[None, :], other=0.0)
                b_tokens = tl.load(p_tokens + i_hidden, mask=m_hidden[:, None], other=0.0)
            b_logits = tl.dot(b_rows, b_tokens, b_logits, input_precision="ieee")
        if HAS_CAP:
            b_logits = softcap * tanh(b_logits / softcap)
        b_logits = tl.where((o_token < vocab)[None, :], b_logits, float("-inf"))
        # [BLOCK_ROWS]
        b_next = tl.maximum(b_max, tl.max(b_logits, 1))
        b_here = tl.sum(tl.exp2((b_logits - b_next[:, None]) * LOG2_E), 1)
        b_sum = b_sum * tl.exp2((b_max - b_next) * LOG2_E) + b_here
        b_max = b_next
    o_out = o_row.to(tl.int64) * tl.num_programs(1) + i_split
    tl.store(p_max + o_out, b_max, mask=o_row < num_rows)
    tl.store(p_sum + o_out, b_sum, mask=o_row < num_rows)


@triton.jit(do_not_specialize=["splits"])
def label_head_join_kernel(  # type: ignore[no-untyped-def]
    p_max,
    p_sum,
    p_out,
    splits,
    BLOCK: tl.constexpr,
):
    """log-sum-exp of one row from the maxima and sums of its vocabulary ranges."""
    i_row = tl.program_id(0).to(tl.int64)
    # [BLOCK]
    o_split = tl.arange(0, BLOCK)
    m_split = o_split < splits
    b_max = tl.load(p_max + i_row * splits + o_split, mask=m_split, other=float("-inf"))
    b_sum = tl.load(p_sum + i_row * splits + o_split, mask=m_split, other=0.0)
    largest = tl.max(b_max, 0)
    tl.store(p_out + i_row, largest + tl.log(tl.sum(b_sum * tl.exp2((b_max - largest) * LOG2_E), 0)))


@triton.jit(do_not_specialize=["softcap"])
def label_head_logit_kernel(  # type: ignore[no-untyped-def]
    p_hidden,
    p_weight,
    p_query_row,
    p_query_token,
    p_logit,
    hidden,
    softcap,
    BLOCK: tl.constexpr,
    HAS_CAP: tl.constexpr,
):
    """Dot product of one hidden row with one row of the output matrix."""
    i_query = tl.program_id(0)
    i_row = tl.load(p_query_row + i_query)
    i_token = tl.load(p_query_token + i_query)
    # [BLOCK]
    o_hidden = tl.arange(0, BLOCK)
    m_hidden = o_hidden < hidden
    b_row = tl.load(p_hidden + i_row * hidden + o_hidden, mask=m_hidden, other=0.0).to(tl.float32)
    b_token = tl.load(p_weight + i_token * hidden + o_hidden, mask=m_hidden, other=0.0).to(tl.float32)
    logit = tl.sum(b_row * b_token, 0)
    if HAS_CAP:
        logit = softcap * tanh(logit / softcap)
    tl.store(p_logit + i_query, logit)


def pack_head(weight: torch.Tensor) -> torch.Tensor:
    """The output matrix [vocab, hidden] as `label_head` reads it: in its own dtype, contiguous."""
    return weight.contiguous()


def label_head(
    hidden: torch.Tensor,
    head: torch.Tensor,
    query_rows: torch.Tensor,
    query_tokens: torch.Tensor,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of single tokens, and the normaliser of their rows.

    hidden: [rows, hidden], already normed. head: from `pack_head`, same dtype. query_rows, query_tokens: [queries]
    int64, in range (unchecked). softcap: c of c * tanh(logit / c), over all logits. Returns logits [queries] and
    log-sum-exp over the vocabulary [rows], float32.
    The two come from sums in different orders: a log-probability may exceed 0 by rounding.
    """
    assert hidden.dtype == head.dtype
    assert hidden.shape[1] == head.shape[1]
    assert hidden.is_contiguous()
    assert head.is_contiguous()
    assert_aligned(hidden, head)
    assert query_rows.shape == query_tokens.shape
    assert query_rows.dtype == query_tokens.dtype == torch.int64
    assert query_rows.is_contiguous()
    assert query_tokens.is_contiguous()
    with torch.cuda.device_of(hidden):
        logits = _label_logits(hidden, head, query_rows, query_tokens, softcap)
        return logits, log_normaliser(hidden, head, SETTINGS[hidden.dtype], softcap)


def scalar_head(hidden: torch.Tensor, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """One number a row, its dot product with the only row of the head: [queries] float32.

    hidden: [rows, hidden], already normed. weight: [1, hidden], same dtype. rows: [queries] int64, in range
    (unchecked).
    """
    assert hidden.dtype == weight.dtype
    assert weight.shape == (1, hidden.shape[1])
    assert hidden.is_contiguous()
    assert weight.is_contiguous()
    assert rows.dtype == torch.int64
    assert rows.is_contiguous()
    assert_aligned(hidden, weight)
    with torch.cuda.device_of(hidden):
        return _label_logits(hidden, weight, rows, torch.zeros_like(rows), None)


def _label_logits(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    query_rows: torch.Tensor,
    query_tokens: torch.Tensor,
    softcap: float | None,
) -> torch.Tensor:
    size = hidden.shape[1]
    logits = torch.empty(len(query_rows), dtype=torch.float32, device=hidden.device)
    label_head_logit_kernel[(len(query_rows),)](
        hidden,
        weight,
        query_rows,
        query_tokens,
        logits,
        size,
        softcap or 0.0,
        BLOCK=triton.next_power_of_2(size),
        HAS_CAP=softcap is not None,
        num_warps=LOGIT_WARPS,
        enable_fp_fusion=False,
    )
    return logits


def log_normaliser(
    hidden: torch.Tensor, weight: torch.Tensor, chosen: HeadSettings, softcap: float | None = None
) -> torch.Tensor:
    """Log-sum-exp over the vocabulary of every row, [rows] float32. hidden, weight, softcap: as in `label_head`."""
    (rows, size), vocab = hidden.shape, len(weight)
    splits = triton.cdiv(vocab, chosen.split)
    # [rows, splits] each: 4 bytes for every `split` logits.
    maxima, sums = (torch.empty(rows, splits, dtype=torch.float32, device=hidden.device) for _ in range(2))
    label_head_split_kernel[(triton.cdiv(rows, chosen.block_rows), splits)](
        hidden,
        weight,
        maxima,
        sums,
        rows,
        vocab,
        size,
        softcap or 0.0,
        SPLIT=chosen.split,
        BLOCK_ROWS=chosen.block_rows,
        BLOCK_VOCAB=chosen.block_vocab,
        BLOCK_HIDDEN=chosen.block_hidden,
        EVEN_HIDDEN=size % chosen.block_hidden == 0,
        HAS_CAP=softcap is not None,
        num_warps=chosen.num_warps,
        num_stages=chosen.num_stages,
        enable_fp_fusion=False,
    )
    out = torch.empty(rows, dtype=torch.float32, device=hidden.device)
    label_head_join_kernel[(rows,)](
        maxima, sums, out, splits, BLOCK=triton.next_power_of_2(splits), num_warps=JOIN_WARPS, enable_fp_fusion=False
    )
    return out
