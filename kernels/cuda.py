"""The operations on a CUDA device: Triton kernels, and the library's matrix products.

The same names as in `kernels.cpu`. Compiled ahead of time and run in Triton's interpreter by the tests; no GPU has run
them yet, which is why `kernels.ops` does not hand them out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from kernels.attention import tree_attention
from kernels.label_head import label_head, pack_head
from kernels.launch import capability_of, tile_rows
from kernels.norm import add_rms_norm, rms_norm
from kernels.rope_store import rotate, store_kv
from kernels.swiglu import swiglu
from kernels.tiles import PlanLayout

ROW_BLOCK = 2048
FINAL_ROW_BLOCK = 128
# Attention gathers into shared memory, not into a buffer.
GATHERED_KEYS = 0


def plan_layout(heads_per_kv: int, size: int, dtype: torch.dtype) -> PlanLayout:
    """Tiles as tall as the attention kernel takes them for these heads."""
    rows = tile_rows(capability_of(_device()), size, dtype.itemsize, heads_per_kv)
    return PlanLayout(ROW_BLOCK, FINAL_ROW_BLOCK, rows, aligned=False)


def pack_linear(weight: torch.Tensor) -> torch.Tensor:
    """cuBLAS reads the weight [out, in] as it is."""
    return weight.contiguous()


def linear(x: torch.Tensor, packed: torch.Tensor) -> torch.Tensor:
    """x [rows, in] times the transposed weight: [rows, out]."""
    return F.linear(x, packed)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


__all__ = [
    "FINAL_ROW_BLOCK",
    "GATHERED_KEYS",
    "ROW_BLOCK",
    "add_rms_norm",
    "label_head",
    "linear",
    "pack_head",
    "pack_linear",
    "plan_layout",
    "rms_norm",
    "rotate",
    "store_kv",
    "swiglu",
    "tree_attention",
]
