"""The operations on a CPU, in plain torch. Oracles of the same names stand in `kernels/reference.py`.

Rows never influence each other: calls on the same number of rows give a row the same bits whatever its neighbours
are. `tests/kernels/test_cpu_invariance.py` holds every function here to that.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

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
from preftree.kernels.routing import route, route_by_sigmoid
from preftree.kernels.tiles import Activation, PlanLayout

# Sequences that are decoded together. Linear layers run at half their rate here, and reach it at four times the rows.
STEP_BLOCK = 32
# Rows in a batch by default: enough chunks for all cores, and little of the last one is padding.
BATCH_ROWS = 8192
CHUNKS_A_THREAD = 4
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
    "PackedGate",
    "PackedLinear",
    "add_layer_norm",
    "add_linear",
    "add_rms_norm",
    "build",
    "clamped_swiglu",
    "exact_products",
    "gated",
    "geglu",
    "label_head",
    "layer_norm",
    "linear",
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
    "store_kv",
    "swiglu",
    "token_logits",
    "tree_attention",
]
