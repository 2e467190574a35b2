"""The output matrix on a CPU: logits of labels, and of the whole vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from preftree.kernels.cpu.products import PackedLinear, linear

# Rows that only the last layer and the label head see are few; a small block wastes little on padding.
FINAL_ROW_BLOCK = 32
VOCAB_BLOCK = 8192


def pack_head(weight: torch.Tensor) -> list[PackedLinear]:
    """The output matrix [vocab, hidden] in vocabulary blocks, which keep its memory: it may be the embedding's, too.

    Label logits are accumulated in float32. Blocks of 16 bits become float32 one by one whenever they are multiplied
    with: a copy in float32 would take twice the memory. oneDNN takes blocks of float32 as they are, with the bits of
    its own layout and a fifth to two fifths slower; but for that a second copy would stay beside a tied embedding.
    """
    is_onednn = weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    return [PackedLinear(block, None, len(block), is_onednn) for block in weight.contiguous().split(VOCAB_BLOCK)]


def _wide(block: PackedLinear) -> PackedLinear:
    return block if block.weight.dtype == torch.float32 else replace(block, weight=block.weight.float())


def label_head(
    hidden: torch.Tensor,
    head: Sequence[PackedLinear],
    query_rows: torch.Tensor,
    query_tokens: torch.Tensor,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of single tokens, and the normaliser of their rows, in one pass over the vocabulary.

    hidden: [rows, hidden], already normed; rows a multiple of FINAL_ROW_BLOCK. head: from `pack_head`.
    query_rows, query_tokens: [queries] int64. softcap: c of c * tanh(logit / c), over all logits. Returns logits
    [queries] and log-sum-exp over the vocabulary [rows], float32. No [rows, vocabulary] tensor ever exists.
    """
    logits = torch.empty(len(query_rows), dtype=torch.float32)
    log_normaliser = torch.full((len(hidden),), float("-inf"))
    rows = hidden.float()
    offset = 0
    for block in map(_wide, head):
        mine = ((query_tokens >= offset) & (query_tokens < offset + block.out_features)).nonzero().squeeze(1)
        for first in range(0, len(rows), FINAL_ROW_BLOCK):
            part = slice(first, first + FINAL_ROW_BLOCK)
            block_logits = linear(rows[part], block)
            if softcap is not None:
                block_logits.div_(softcap).tanh_().mul_(softcap)
            torch.logaddexp(log_normaliser[part], block_logits.logsumexp(-1), out=log_normaliser[part])
            here = mine[(query_rows[mine] >= first) & (query_rows[mine] < part.stop)]
            logits[here] = block_logits[query_rows[here] - first, query_tokens[here] - offset]
        offset += block.out_features
    return logits, log_normaliser


def scalar_head(hidden: torch.Tensor, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """One number a row, its dot product with the only row of the head: [queries] float32.

    hidden: [rows, hidden], already normed; rows a multiple of FINAL_ROW_BLOCK. weight: [1, hidden], of any float type.
    rows: [queries] int64.
    """
    # A sum of products, not a matrix product: a library may choose another order for a matrix of one column.
    wide = weight.float()
    blocks = [(block.float() * wide).sum(-1) for block in hidden.split(FINAL_ROW_BLOCK)]
    return torch.cat(blocks)[rows]


def token_logits(hidden: torch.Tensor, head: Sequence[PackedLinear]) -> torch.Tensor:
    """Logits of the whole vocabulary, to choose a token from: [rows, vocab] float32.

    hidden: [rows, hidden], already normed. Bits of a row may depend on the number of rows.
    """
    wide = hidden.float()
    if len(wide) == 1 and head[0].is_onednn:  # oneDNN sums a lone row in another order than a row among others
        return token_logits(wide.expand(2, -1).contiguous(), head)[:1]
    return torch.cat([linear(wide, block) for block in map(_wide, head)], dim=-1)
