"""The operations on a CPU, in plain torch. Oracles of the same names stand in `kernels/reference.py`.

Rows never influence each other: calls on the same number of rows give a row the same bits whatever its neighbours
are. `tests/kernels/test_cpu_invariance.py` holds every function here to that.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch

from preftree.kernels.cpu import experts as mixtures
from preftree.kernels.cpu.attention import tree_attention
from preftree.kernels.cpu.elementwise import (
    add_layer_norm,
    add_rms_norm,
    clamped_swiglu,
    geglu,
    layer_norm,
    rms_norm,
    rotate,
    store_kv,
    swiglu,
)
from preftree.kernels.cpu.experts import Experts, combine_experts
from preftree.kernels.cpu.head import FINAL_ROW_BLOCK, label_head, pack_head, scalar_head, token_logits
from preftree.kernels.cpu.products import (
    ROW_BLOCK,
    SHORT_ROW_BLOCK,
    PackedGate,
    PackedLinear,
    add_linear,
    gated,
    linear,
    pack_gated,
    pack_linear,
    pack_plain,
)
from preftree.kernels.quantized.types import Quantized
from preftree.kernels.routing import ExpertPairs, route, route_by_sigmoid, sort_by_expert
from preftree.kernels.stacked import Layer
from preftree.kernels.tiles import Activation, PlanLayout

# Sequences that are decoded together. Linear layers run at half their rate here, and reach it at four times the rows.
STEP_BLOCK = 32
# Rows in a batch by default: enough chunks for all cores, and little of the last one is padding.
BATCH_ROWS = 8192
CHUNKS_A_THREAD = 4
# Rows of an expert's products, at most: taller blocks multiply faster, and more of the last one is padding.
EXPERT_BLOCK = 128
# Query rows of a tile, per head. Sums of products depend on the number of keys, so tiles are cut by depth, and short
# suffixes leave lanes of them empty.
TILE_LANES = 16


def plan_layout(
    device: torch.device,
    dtype: torch.dtype,
    hidden_size: int,
    heads_per_kv: int,
    head_dim: int,
) -> PlanLayout:
    """The same for every model."""
    row_block = ROW_BLOCK if dtype == torch.float32 else SHORT_ROW_BLOCK
    threads = torch.get_num_threads()
    rows = max(BATCH_ROWS, CHUNKS_A_THREAD * threads * row_block)
    return PlanLayout(
        row_block,
        FINAL_ROW_BLOCK,
        TILE_LANES,
        tiles="runs",
        in_chunks=True,
        step_block=STEP_BLOCK,
        batch_blocks=rows // row_block,
        threads=threads,
        is_wide=dtype != torch.float32,
    )


def pack_experts(
    gate_ups: Iterable[Layer], downs: Iterable[Layer], count: int, quantized: Quantized | None = None
) -> Experts:
    """Pack the layers of `count` experts, which are taken one at a time. gate_ups: gate and up, one below the other.
    quantized: to this type."""
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
    """The MLP of each pair's expert, into out [pairs, hidden].

    x: [rows, hidden]. pairs: from `sort_by_expert`. activation: of the gate, see `gated`. row_block: rows of a product,
    at most; a row's bits may depend on it. numbers: of the experts whose pairs are meant, None for all.
    """

    def multiply(rows: torch.Tensor, gate_up: mixtures.Packed, down: mixtures.Packed) -> torch.Tensor:
        return linear(gated(rows, gate_up, activation), down)

    block = min(row_block, EXPERT_BLOCK)
    mixtures.expert_products(x, pairs, experts, out, numbers, block, block, multiply)


def build() -> None:
    """Names the sources that operations were compiled from; here there are none."""


def exact_products() -> AbstractContextManager[None]:
    """Nothing to switch: sums are float32 or wider."""
    return nullcontext()


__all__ = [
    "FINAL_ROW_BLOCK",
    "ROW_BLOCK",
    "STEP_BLOCK",
    "Activation",
    "Experts",
    "PackedGate",
    "PackedLinear",
    "add_layer_norm",
    "add_linear",
    "add_rms_norm",
    "build",
    "clamped_swiglu",
    "combine_experts",
    "exact_products",
    "expert_products",
    "gated",
    "geglu",
    "label_head",
    "layer_norm",
    "linear",
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
    "swiglu",
    "token_logits",
    "tree_attention",
]
