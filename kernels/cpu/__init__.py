"""The operations on a CPU, in plain torch. Oracles of the same names stand in `kernels/reference.py`.

Rows never influence each other: calls on the same number of rows give a row the same bits whatever its neighbours
are. `tests/kernels/test_cpu_invariance.py` holds every function here to that.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from preftree.kernels.cpu.attention import tree_attention
from preftree.kernels.cpu.elementwise import add_rms_norm, geglu, rms_norm, rotate, store_kv, swiglu, wide_angles
from preftree.kernels.cpu.head import FINAL_ROW_BLOCK, label_head, pack_head, token_logits
from preftree.kernels.cpu.products import (
    ROW_BLOCK,
    SHORT_ROW_BLOCK,
    PackedLinear,
    gated,
    linear,
    pack_gated,
    pack_linear,
    pack_plain,
)
from preftree.kernels.routing import route
from preftree.kernels.tiles import PlanLayout, RunLayout

# Sequences that are decoded together. Linear layers run at half their rate here, and reach it at four times the rows.
STEP_BLOCK = 32
# Rows in a batch by default: enough chunks for all cores, and little of the last one is padding.
BATCH_ROWS = 8192
CHUNKS_A_THREAD = 4
# Query rows of a tile, per head. Sums of float32 products depend on the number of keys, so tiles are cut by depth, and
# short suffixes leave lanes of them empty. Those of 16 bits do not, and tall tiles take fewer calls.
TILE_LANES = 16
SHORT_TILE_ROWS = 192  # all heads that share a K/V head together
SHORT_KEYS = 32


def plan_layout(
    device: torch.device,
    dtype: torch.dtype,
    hidden_size: int,
    heads_per_kv: int,
    head_dim: int,
    has_softcap: bool = False,
) -> PlanLayout:
    """The same for every model, but for tiles: many heads that share a K/V head make them lower.

    has_softcap: of attention scores, whose products are float32.
    """
    row_block = ROW_BLOCK if dtype == torch.float32 else SHORT_ROW_BLOCK
    rows = max(BATCH_ROWS, CHUNKS_A_THREAD * torch.get_num_threads() * row_block)
    if dtype == torch.float32 or has_softcap:
        lanes, runs = TILE_LANES, RunLayout(TILE_LANES, aligned=True)
    else:
        lanes, runs = max(16, SHORT_TILE_ROWS // heads_per_kv // 16 * 16), RunLayout(SHORT_KEYS, aligned=False)
    return PlanLayout(
        row_block,
        FINAL_ROW_BLOCK,
        lanes,
        runs,
        step_block=STEP_BLOCK,
        batch_blocks=rows // row_block,
        is_wide=dtype != torch.float32,
    )


def exact_products() -> AbstractContextManager[None]:
    """Nothing to switch: sums are float32 or wider."""
    return nullcontext()


__all__ = [
    "FINAL_ROW_BLOCK",
    "ROW_BLOCK",
    "STEP_BLOCK",
    "PackedLinear",
    "add_rms_norm",
    "exact_products",
    "gated",
    "geglu",
    "label_head",
    "linear",
    "pack_gated",
    "pack_head",
    "pack_linear",
    "pack_plain",
    "plan_layout",
    "rms_norm",
    "rotate",
    "route",
    "store_kv",
    "swiglu",
    "token_logits",
    "tree_attention",
    "wide_angles",
]
