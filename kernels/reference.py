"""The oracle of every operation: the shortest correct code, for any float dtype. The kernels never import it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kernels.tiles import TileGroup


def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x [rows, in], weight [out, in]: [rows, out]."""
    return x @ weight.T


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension."""
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def add_rms_norm(residual: torch.Tensor, update: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Add `update` to `residual` in place and return the norm of the sum."""
    residual += update
    return rms_norm(residual, weight, eps)


def rotate(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    out: torch.Tensor,
    norm: torch.Tensor | None = None,
    eps: float = 0.0,
) -> None:
    """Rotate x [rows, heads * size] into out [rows, heads, size] as complex numbers (left, right).

    With `norm` [size], every head goes through `rms_norm` before.
    """
    half = cos.shape[-1]
    heads = x.view(out.shape)
    if norm is not None:
        heads = rms_norm(heads, norm, eps)
    rotated = torch.complex(heads[..., :half], heads[..., half:]) * torch.complex(cos, sin).unsqueeze(1)
    out[..., :half], out[..., half:] = rotated.real, rotated.imag


def store_kv(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    out: torch.Tensor,
    norm: torch.Tensor | None = None,
    eps: float = 0.0,
) -> None:
    """Rotated keys and plain values of x [rows, 2 * kv_heads * size] into out [rows, 2, kv_heads, size]."""
    keys, values = x.chunk(2, dim=-1)
    rotate(keys, cos, sin, out[:, 0], norm, eps)
    out[:, 1] = values.view(out[:, 1].shape)


def tree_attention(queries: torch.Tensor, kv: torch.Tensor, groups: Sequence[TileGroup], out: torch.Tensor) -> None:
    """Row by row, head by head: softmax over the keys of the row's own path and nothing else."""
    scratch = len(queries) - 1
    heads_per_kv = queries.shape[1] // kv.shape[2]
    for group in groups:
        for rows, slots in zip(group.rows, group.slots, strict=True):
            for lane, row in enumerate(rows.tolist()):
                if row == scratch:
                    continue
                path = slots[: group.keys - group.lanes + lane + 1]
                for head in range(queries.shape[1]):
                    keys, values = kv[path, 0, head // heads_per_kv], kv[path, 1, head // heads_per_kv]
                    scores = keys @ queries[row, head] / queries.shape[2] ** 0.5
                    out[row, head] = torch.softmax(scores, 0) @ values


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """gate * sigmoid(gate) * up."""
    gate, up = gate_up.chunk(2, dim=-1)
    return gate * torch.sigmoid(gate) * up


def label_head(
    hidden: torch.Tensor, weight: torch.Tensor, query_rows: torch.Tensor, query_tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole vocabulary rows, then a look-up: logits [queries], log-sum-exp [rows]."""
    logits = hidden @ weight.T
    return logits[query_rows, query_tokens], logits.logsumexp(-1)
