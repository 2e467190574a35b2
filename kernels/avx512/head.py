"""The output matrix in bfloat16: logits of labels, and of the whole vocabulary, from float32 hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from preftree.kernels import cpu
from preftree.kernels.avx512.library import address, loaded, prefers_amx
from preftree.kernels.cpu import PackedLinear

_TERMS = 32


@dataclass(frozen=True)
class Head:
    """weight: [vocab, hidden] bfloat16, as it is stored."""

    weight: torch.Tensor


def pack_head(weight: torch.Tensor) -> Head | list[PackedLinear]:
    """The output matrix [vocab, hidden], which keeps its memory: it may be that of the embedding, too."""
    fits = weight.shape[1] % _TERMS == 0 and weight.is_contiguous() and weight.dtype == torch.bfloat16
    return Head(weight) if fits else cpu.pack_head(weight)


def label_head(
    hidden: torch.Tensor,
    head: Head | Sequence[PackedLinear],
    query_rows: torch.Tensor,
    query_tokens: torch.Tensor,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`kernels.cpu.label_head`."""
    if not isinstance(head, Head):
        return cpu.label_head(hidden, head, query_rows, query_tokens, softcap)
    logits, log_normaliser = torch.empty(len(query_rows)), torch.empty(len(hidden))
    wide, tokens, rows = hidden.float().contiguous(), query_tokens.contiguous(), query_rows.contiguous()
    loaded().preftree_label_head(
        prefers_amx(),
        address(wide),
        *wide.shape,
        address(head.weight),
        len(head.weight),
        softcap or 0.0,
        address(rows),
        address(tokens),
        len(rows),
        address(logits),
        address(log_normaliser),
    )
    return logits, log_normaliser


def token_logits(hidden: torch.Tensor, head: Head | Sequence[PackedLinear]) -> torch.Tensor:
    """`kernels.cpu.token_logits`."""
    if not isinstance(head, Head):
        return cpu.token_logits(hidden, head)
    wide, out = hidden.float().contiguous(), torch.empty(len(hidden), len(head.weight))
    loaded().preftree_token_logits(
        prefers_amx(), address(wide), *wide.shape, address(head.weight), len(head.weight), address(out)
    )
    return out
