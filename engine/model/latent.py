"""Queries, keys and values of latent attention, as any other attention takes them. See `Latent`."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from preftree.engine.config.latent import Latent
from preftree.engine.weights.layers import LayerWeights
from preftree.kernels.quantized.fp8 import Fp8Rows

# Of the norms of latents, whatever config.json says of others.
EPS = 1e-6


def query_latent(
    ops: SimpleNamespace, layer: LayerWeights, x: torch.Tensor | Fp8Rows, row_block: int
) -> torch.Tensor | Fp8Rows:
    """What queries are expanded from; x itself where that is the hidden state."""
    if layer.q_latent is None:
        return x
    return ops.rms_norm(ops.linear(x, layer.q_latent, row_block), layer.q_latent_norm, EPS)


def keys_values(
    ops: SimpleNamespace, layer: LayerWeights, latent: Latent, x: torch.Tensor | Fp8Rows, row_block: int
) -> torch.Tensor:
    """x [rows, hidden] as keys and values before rotation, [rows, 2 * heads * head_size]."""
    short = ops.linear(x, layer.kv_latent, row_block)
    normed = ops.rms_norm(short[:, : latent.kv_rank].contiguous(), layer.kv_latent_norm, EPS)
    out = ops.linear(normed, layer.keys_values, row_block)
    keys, _ = out.chunk(2, dim=1)
    # The left and the right half of every head begin with what rotates.
    halves = keys.unflatten(1, (-1, 2, latent.head_size // 2))
    halves[..., : latent.rotated // 2] = short[:, latent.kv_rank :].unflatten(1, (1, 2, -1))
    return out
