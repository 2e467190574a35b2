"""The operations in bfloat16 on CPUs with AVX-512 for it, compiled from the C++ beside this file.

A row's bits depend neither on the rows beside it nor on how many there are. Oracles of the same names stand in
`kernels/reference.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch

from preftree.kernels import cpu
from preftree.kernels.avx512.head import label_head, pack_head, token_logits
from preftree.kernels.avx512.library import address, build, loaded, obstacle, prefers_amx
from preftree.kernels.avx512.products import add_linear, gated, linear, pack_gated, pack_linear
from preftree.kernels.cpu import exact_products, pack_plain, route, route_by_sigmoid, scalar_head, sort_by_expert
from preftree.kernels.cpu import experts as mixtures
from preftree.kernels.cpu.experts import Experts
from preftree.kernels.quantized.types import Quantized
from preftree.kernels.routing import ExpertPairs
from preftree.kernels.stacked import Layer
from preftree.kernels.tiles import Activation, PathTiles, PlanLayout

# Rows of a matrix product, and query rows that attention takes at a time, of all heads that share a K/V head together.
ROW_BLOCK = 32
# Rows that a thread takes through a layer: weights are read from memory once for them.
CHUNK_ROWS = 512


def plan_layout(
    device: torch.device,
    dtype: torch.dtype,
    hidden_size: int,
    heads_per_kv: int,
    head_dim: int,
) -> PlanLayout:
    """The same for every model."""
    layout = cpu.plan_layout(device, dtype, hidden_size, heads_per_kv, head_dim)
    rows = layout.batch_blocks * layout.row_block
    return replace(
        layout,
        row_block=ROW_BLOCK,
        tile_rows=ROW_BLOCK,
        tiles="paths",
        chunk_blocks=CHUNK_ROWS // ROW_BLOCK,
        batch_blocks=rows // ROW_BLOCK,
    )


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
    """`kernels.cpu.tree_attention`, over tiles that may be cut anywhere.

    What is gathered for a tile serves the next one as far as their paths agree.
    """
    heads, size = queries.shape[1:]
    for one in [tiles] if isinstance(tiles, PathTiles) else tiles:
        loaded().preftree_attend(
            prefers_amx(),
            address(queries),
            address(kv),
            *map(address, (one.first_row, one.num_rows, one.first_depth, one.path, one.slots)),
            len(one.path),
            address(out),
            heads,
            kv.shape[2],
            size,
            size**-0.5 if scale is None else scale,
            softcap or 0.0,
            window or 0,
            address(sinks),
        )


def pack_experts(
    gate_ups: Iterable[Layer], downs: Iterable[Layer], count: int, quantized: Quantized | None = None
) -> Experts:
    """`kernels.cpu.pack_experts`."""
    return mixtures.pack_experts(gate_ups, downs, pack_gated, pack_linear, quantized)


def expert_products(
    x: torch.Tensor,
    pairs: ExpertPairs,
    experts: Experts,
    activation: Activation,
    out: torch.Tensor,
    row_block: int,
    numbers: range | None = None,
) -> None:
    """`kernels.cpu.expert_products`. An expert's weights are read once for all of its rows, up to `CHUNK_ROWS`."""

    def multiply(rows: torch.Tensor, gate_up: mixtures.Packed, down: mixtures.Packed) -> torch.Tensor:
        return linear(gated(rows, gate_up, activation, ROW_BLOCK), down, ROW_BLOCK)

    mixtures.expert_products(x, pairs, experts, out, numbers, ROW_BLOCK, CHUNK_ROWS, multiply)


def combine_experts(products: torch.Tensor, pairs: ExpertPairs) -> torch.Tensor:
    """`kernels.cpu.combine_experts`."""
    places, width = pairs.places, products.shape[1]
    out = torch.empty(len(places), width, dtype=torch.bfloat16)
    inputs = map(address, (products, places, pairs.weights))
    loaded().preftree_combine(*inputs, address(out), *places.shape, width)
    return out


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype | None = None) -> torch.Tensor:
    """`kernels.cpu.rms_norm`. Norms of the residual stream, whose result is bfloat16, are fused; others are not."""
    if x.dtype != torch.float32 or dtype != torch.bfloat16:
        return cpu.rms_norm(x, weight, eps, dtype)
    return _added_norm(loaded().preftree_add_rms_norm, x, None, weight, eps)


def add_rms_norm(residual: torch.Tensor, update: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Add `update`, bfloat16, to `residual`, float32, IN PLACE and return the norm of the sum, bfloat16."""
    return _added_norm(loaded().preftree_add_rms_norm, residual, update, weight, eps)


def layer_norm(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype | None = None) -> torch.Tensor:
    """`kernels.cpu.layer_norm`, fused where `rms_norm` is."""
    if x.dtype != torch.float32 or dtype != torch.bfloat16:
        return cpu.layer_norm(x, weight, eps, dtype)
    return _added_norm(loaded().preftree_add_layer_norm, x, None, weight, eps)


def add_layer_norm(residual: torch.Tensor, update: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """`add_rms_norm` with `layer_norm`."""
    return _added_norm(loaded().preftree_add_layer_norm, residual, update, weight, eps)


def _added_norm(
    function: Callable[..., None], residual: torch.Tensor, update: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    out = torch.empty(residual.shape, dtype=torch.bfloat16)
    rows, width = residual.shape
    addresses = map(address, (residual, update, weight))
    function(*addresses, eps, address(out), rows, width)
    return out


def rotate(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    out: torch.Tensor,
    norm: torch.Tensor | None = None,
    eps: float = 0.0,
) -> None:
    """`kernels.cpu.rotate`."""
    _rotate_heads(x, cos, sin, norm, eps, out, None, out.shape[1], 0)


def store_kv(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    out: torch.Tensor,
    norm: torch.Tensor | None = None,
    eps: float = 0.0,
    slots: torch.Tensor | None = None,
) -> None:
    """`kernels.cpu.store_kv`."""
    _rotate_heads(x, cos, sin, norm, eps, out, slots, out.shape[2], out.shape[2])


def _rotate_heads(
    x: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    norm: torch.Tensor | None,
    eps: float,
    out: torch.Tensor,
    slots: torch.Tensor | None,
    rotated: int,
    copied: int,
) -> None:
    """The first `rotated` heads of a row rotate, `copied` more do not. slots: [rows], where each row goes."""
    loaded().preftree_rotate(
        address(x),
        x.stride(0),
        *map(address, (cos, sin, norm)),
        eps,
        address(out),
        out.stride(0),
        address(slots),
        len(x),
        rotated,
        copied,
        out.shape[-1],
    )


__all__ = [
    "add_layer_norm",
    "add_linear",
    "add_rms_norm",
    "build",
    "combine_experts",
    "exact_products",
    "expert_products",
    "gated",
    "label_head",
    "layer_norm",
    "linear",
    "obstacle",
    "pack_experts",
    "pack_gated",
    "pack_head",
    "pack_linear",
    "pack_plain",
    "plan_layout",
    "rms_norm",
    "rotate",
    "route",
    "route_by_sigmoid",
    "scalar_head",
    "sort_by_expert",
    "store_kv",
    "token_logits",
    "tree_attention",
]
