"""Element-wise operations on a CPU, in plain torch: norms, rotary embeddings, gates.

Float32 inside. Of 16 bits torch reads and writes at a fifth of float32's rate, so tensors change type once each way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype | None = None) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in float32 inside (Zhang and Sennrich, 2019).

    A weight in float32 multiplies before the result is rounded, any other one after. dtype: of the result, None for
    that of x.
    """
    wide, dtype = x.float(), dtype or x.dtype
    if dtype != torch.float32 and weight.dtype == torch.float32:
        # The library's norm, in one call: other bits than those below.
        return F.rms_norm(wide, weight.shape, weight, eps).to(dtype)
    scale = wide.pow(2).mean(-1, keepdim=True).add_(eps).rsqrt_()
    if weight.dtype == torch.float32:
        return (wide * scale).mul_(weight).to(dtype)
    return (wide * scale).to(dtype).mul_(weight)


def add_rms_norm(residual: torch.Tensor, update: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Add `update` to `residual` IN PLACE and return the norm of the sum, in the type of `update`."""
    return rms_norm(residual.add_(update), weight, eps, update.dtype)


def layer_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype | None = None) -> torch.Tensor:
    """(x - mean(x)) / sqrt(variance(x) + eps) * weight over the last dimension, without a bias (Ba et al., 2016).

    In float32 inside, and rounded once. dtype: of the result, None for that of x.
    """
    return F.layer_norm(x.float(), weight.shape, weight.float(), eps=eps).to(dtype or x.dtype)


def add_layer_norm(residual: torch.Tensor, update: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """`add_rms_norm` with `layer_norm`."""
    return layer_norm(residual.add_(update), weight, eps, update.dtype)


def rotate(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    out: torch.Tensor,
    norm: torch.Tensor | None = None,
    eps: float = 0.0,
) -> None:
    """Rotary embedding of x [rows, heads * size] into out [rows, heads, size].

    cos, sin: [rows, size / 2], float32. Pairs are (i, i + size / 2), as in the checkpoints of Hugging Face (Su et al.,
    2021, rotated halves). With `norm` [size], every head is RMS-normed before (Qwen3).
    """
    heads = x.view(out.shape)
    if norm is not None:
        heads = rms_norm(heads, norm, eps)
    half = cos.shape[-1]
    left, right = heads.split(half, dim=-1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    if out.dtype != torch.float32:
        out[..., :half], out[..., half:] = left * cos - right * sin, right * cos + left * sin
        return
    torch.mul(left, cos, out=out[..., :half]).addcmul_(right, sin, value=-1)
    torch.mul(right, cos, out=out[..., half:]).addcmul_(left, sin)


def store_kv(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    out: torch.Tensor,
    norm: torch.Tensor | None = None,
    eps: float = 0.0,
    slots: torch.Tensor | None = None,
) -> None:
    """Keys and values x [rows, 2 * kv_heads * size] into their slots, out [slots, 2, kv_heads, size]; keys rotated.

    With `norm` [size], every key head is RMS-normed before it rotates. slots: [rows] int64, where each row goes; None
    for row r into slot r of as many.
    """
    keys, values = x.chunk(2, dim=-1)
    own = out if slots is None else out.new_empty(len(x), *out.shape[1:])
    rotate(keys, cos, sin, out=own[:, 0], norm=norm, eps=eps)
    own[:, 1] = values.view(own[:, 1].shape)
    if slots is not None:
        out.index_copy_(0, slots, own)


def swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up for gate_up [rows, 2 * width], gate first: [rows, width] (Shazeer, 2020)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)


def geglu(gate_up: torch.Tensor) -> torch.Tensor:
    """gelu(gate) * up, as `swiglu`; gelu by its tanh formula (Hendrycks and Gimpel, 2016)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh").mul_(up)


def clamped_swiglu(gate_up: torch.Tensor) -> torch.Tensor:
    """gate * sigmoid(1.702 * gate) * (up + 1), as `swiglu`; gate at most 7, up within 7 of zero (gpt-oss)."""
    gate, up = gate_up.float().chunk(2, dim=-1)
    gate = gate.clamp(max=7)
    return (torch.sigmoid(1.702 * gate) * gate * (up.clamp(-7, 7) + 1)).to(gate_up.dtype)
