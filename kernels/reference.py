"""The oracle of every operation: the shortest correct code, for any float dtype. The kernels never import it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from preftree.kernels.tiles import TileRun


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [rows, in], weight [out, in], bias [out]: [rows, out]."""
    return x @ weight.T if bias is None else x @ weight.T + bias


def add_linear(
    residual: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    factor: float = 1.0,
) -> None:
    """Add factor * `linear` to `residual` [rows, out] in place."""
    residual += factor * linear(x, weight, bias)


def quantized_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`linear` of x and weight in 8 bits: 127 steps to the largest of a row of x, or of the weights of an output.

    Both are rotated before, 64 numbers at a time where that divides their rows.
    """
    return linear(_in_steps(_rotated(x)), _in_steps(_rotated(weight)), bias)


def _rotated(rows: torch.Tensor) -> torch.Tensor:
    """Number j becomes the sum of all, those negated whose place has an odd number of ones in common with j."""
    if rows.shape[1] % 64:
        return rows
    signs = [[(-1) ** (i & j).bit_count() for j in range(64)] for i in range(64)]
    return (rows.view(len(rows), -1, 64) @ torch.tensor(signs, dtype=rows.dtype) / 8).view_as(rows)


def _in_steps(rows: torch.Tensor) -> torch.Tensor:
    step = rows.abs().amax(-1, keepdim=True) / 127
    return torch.where(step > 0, (rows / step).round() * step, 0)


def fp8_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Levels e4m3 [rows, in] and scales [rows] of x [rows, in]: the largest of a row becomes 448."""
    scale = (x.abs().amax(1) / 448).clamp(min=torch.finfo(torch.float32).tiny)
    return (x / scale.unsqueeze(1)).to(torch.float8_e4m3fn), scale


def fp8_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`linear` of x and weight in fp8: a scale for each row of x, and for the weights of each output."""
    rows, outputs = ([part.to(x.dtype) for part in fp8_rows(one)] for one in (x, weight))
    return linear(rows[0] * rows[1].unsqueeze(1), outputs[0] * outputs[1].unsqueeze(1), bias)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension."""
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def add_rms_norm(residual: torch.Tensor, update: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Add `update` to `residual` in place and return the norm of the sum."""
    residual += update
    return rms_norm(residual, weight, eps)


def layer_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """`rms_norm` of x - mean(x)."""
    return rms_norm(x - x.mean(-1, keepdim=True), weight, eps)


def add_layer_norm(residual: torch.Tensor, update: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Add `update` to `residual` in place and return the norm of the sum."""
    residual += update
    return layer_norm(residual, weight, eps)


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
    slots: torch.Tensor | None = None,
) -> None:
    """Rotated keys and plain values of x [rows, 2 * kv_heads * size] into `slots` of out [slots, 2, kv_heads, size]."""
    keys, values = x.chunk(2, dim=-1)
    own = out.new_empty(len(x), *out.shape[1:])
    rotate(keys, cos, sin, own[:, 0], norm, eps)
    own[:, 1] = values.view(own[:, 1].shape)
    out[torch.arange(len(x)) if slots is None else slots] = own


def store_qkv(
    x: torch.Tensor,
    of_queries: tuple[torch.Tensor, torch.Tensor],
    of_keys: tuple[torch.Tensor, torch.Tensor],
    queries: torch.Tensor,
    kv: torch.Tensor,
    norms: tuple[torch.Tensor, torch.Tensor] | None = None,
    eps: float = 0.0,
    slots: torch.Tensor | None = None,
) -> None:
    """`rotate` of the leading queries of x, then `store_kv` of its keys and values."""
    projected = x.tensor_split([queries[0].numel()], dim=1)
    q_norm, k_norm = norms or (None, None)
    rotate(projected[0].contiguous(), *of_queries, queries, q_norm, eps)
    store_kv(projected[1].contiguous(), *of_keys, kv, k_norm, eps, slots)


def tree_attention(
    queries: torch.Tensor,
    kv: torch.Tensor,
    runs: Sequence[TileRun],
    out: torch.Tensor,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> None:
    """Row by row, head by head: softmax over the keys of the row's own path, or the last `window` of them.

    sinks: [heads], the score of one key more, which has no value.
    """
    scale = queries.shape[2] ** -0.5 if scale is None else scale
    heads_per_kv = queries.shape[1] // kv.shape[2]
    for run in runs:
        path = torch.empty(0, dtype=torch.int64)
        for tile in run.tiles:
            path = torch.cat([path[: tile.fresh], tile.slots])
            for i in range(tile.rows):
                row, end = tile.first_row + i, tile.first_depth + tile.lane + i + 1
                seen = path[:end][-(window or end) :]
                for head in range(queries.shape[1]):
                    keys, values = kv[seen, 0, head // heads_per_kv], kv[seen, 1, head // heads_per_kv]
                    scores = capped(keys @ queries[row, head] * scale, softcap)
                    if sinks is not None:
                        scores = torch.cat([scores, sinks[head : head + 1].to(scores.dtype)])
                    out[row, head] = torch.softmax(scores, 0)[: len(seen)] @ values


def capped(x: torch.Tensor, softcap: float | None) -> torch.Tensor:
    """softcap * tanh(x / softcap)."""
    return x if softcap is None else softcap * torch.tanh(x / softcap)


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """gate * sigmoid(gate) * up."""
    gate, up = gate_up.chunk(2, dim=-1)
    return gate * torch.sigmoid(gate) * up


def geglu(gate_up: torch.Tensor) -> torch.Tensor:
    """gelu(gate) * up, gelu(x) = x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))."""
    gate, up = gate_up.chunk(2, dim=-1)
    return gate / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (gate + 0.044715 * gate**3))) * up


def clamped_swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """gate * sigmoid(1.702 * gate) * (up + 1), gate at most 7, up from -7 to 7."""
    gate, up = gate_up.chunk(2, dim=-1)
    gate, up = gate.clamp(max=7), up.clamp(-7, 7)
    return gate * torch.sigmoid(1.702 * gate) * (up + 1)


def route(router_logits: torch.Tensor, per_row: int, is_normalised: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities by exponentials, the largest by sorting: weights and experts, both [rows, per_row]."""
    weights, order = (router_logits.exp() / router_logits.exp().sum(-1, keepdim=True)).sort(-1, descending=True)
    weights, order = weights[:, :per_row], order[:, :per_row]
    return weights / weights.sum(-1, keepdim=True) if is_normalised else weights, order


def route_by_sigmoid(
    router_logits: torch.Tensor,
    correction: torch.Tensor,
    per_row: int,
    is_normalised: bool,
    groups: int,
    kept_groups: int,
    scaling: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row by row, group by group, in Python's sorting."""
    scores = 1 / (1 + (-router_logits).exp())
    size = router_logits.shape[1] // groups
    weights, order = [], []
    for row, corrected in zip(scores, (scores + correction).tolist(), strict=True):
        parts = [range(first, first + size) for first in range(0, len(corrected), size)]
        parts.sort(key=lambda part: -sum(sorted(corrected[expert] for expert in part)[-2:]))
        allowed = sorted(expert for part in parts[:kept_groups] for expert in part)
        best = sorted(allowed, key=lambda expert: -corrected[expert])[:per_row]
        total = row[best].sum() + 1e-20 if is_normalised else 1
        weights.append(row[best] / total * scaling)
        order.append(torch.tensor(best))
    return torch.stack(weights), torch.stack(order)


def mixture(
    x: torch.Tensor,
    weights: torch.Tensor,
    chosen: torch.Tensor,
    gate_ups: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
    downs: Sequence[tuple[torch.Tensor, torch.Tensor | None]],
    gate: Callable[[torch.Tensor], torch.Tensor],
    product: Callable[..., torch.Tensor] = linear,
) -> torch.Tensor:
    """Row by row, expert by expert: [rows, hidden]. gate_ups, downs: weight and bias of each expert. gate: `swiglu`.

    product: `linear`, or `fp8_linear`.
    """
    out = torch.zeros_like(x)
    for row in range(len(x)):
        for weight, expert in zip(weights[row], chosen[row].tolist(), strict=True):
            inner = gate(product(x[row : row + 1], *gate_ups[expert]))
            out[row] += weight * product(inner, *downs[expert])[0]
    return out


def label_head(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    query_rows: torch.Tensor,
    query_tokens: torch.Tensor,
    softcap: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole vocabulary rows, then a look-up: logits [queries], log-sum-exp [rows]."""
    logits = capped(hidden @ weight.T, softcap)
    return logits[query_rows, query_tokens], logits.logsumexp(-1)


def scalar_head(hidden: torch.Tensor, weight: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The product with a matrix of one row, then a look-up: [queries]."""
    return (hidden @ weight.T)[rows, 0]
