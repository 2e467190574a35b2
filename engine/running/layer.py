"""One decoder layer over the rows of a pass: projections, attention, MLP.

Linear layers run on blocks of a fixed number of rows, so a row's bits do not depend on what else is in the pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from engine.loading.config import ModelConfig
from engine.running.weights import LayerWeights
from kernels.tiles import Tiles


@dataclass
class Activations:
    """Those of one pass, reused by every layer.

    hidden: [rows, hidden], the residual stream. queries: [rows + 1, heads, size], overwritten by the attention output;
    the last row is the scratch row of tiles. cos, sin: [rows, size / 2].
    """

    hidden: torch.Tensor
    queries: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor


class DecoderLayer:
    """The arithmetic of a layer. Which rows there are, and where their K/V goes, is its caller's business."""

    def __init__(self, config: ModelConfig, ops: SimpleNamespace) -> None:
        self.config = config
        self.ops = ops

    def project(
        self, layer: LayerWeights, rows: Activations, kv: torch.Tensor, row_block: int, queries: bool = True
    ) -> None:
        """Rotated keys and values of all rows into `kv` [rows, 2, kv_heads, size]; rotated queries where wanted."""
        ops, eps = self.ops, self.config.norm_eps
        for block in blocks(rows.hidden, row_block):
            normed = ops.rms_norm(rows.hidden[block], layer.attention_norm, eps)
            projected = ops.linear(normed, layer.kv)
            cos, sin = rows.cos[block], rows.sin[block]
            ops.store_kv(projected, cos, sin, out=kv[block], norm=layer.k_norm, eps=eps)
            if queries:
                self._write_queries(layer, normed, rows, block)

    def project_queries(self, layer: LayerWeights, rows: Activations, row_block: int) -> None:
        """Rotated queries alone, of rows whose keys and values are there already."""
        for block in blocks(rows.hidden, row_block):
            normed = self.ops.rms_norm(rows.hidden[block], layer.attention_norm, self.config.norm_eps)
            self._write_queries(layer, normed, rows, block)

    def attend_and_mlp(
        self, layer: LayerWeights, tiles: Tiles, rows: Activations, kv: torch.Tensor, row_block: int
    ) -> None:
        """The rest of the layer, in place. kv: [slots, 2, kv_heads, size], what the tiles' paths name."""
        ops, hidden, queries = self.ops, rows.hidden, rows.queries
        ops.tree_attention(queries, kv, tiles, out=queries)
        for block in blocks(hidden, row_block):
            update = ops.linear(queries[block].flatten(1), layer.o)
            normed = ops.add_rms_norm(hidden[block], update, layer.mlp_norm, self.config.norm_eps)
            hidden[block] += ops.linear(ops.swiglu(ops.linear(normed, layer.gate_up)), layer.down)

    def _write_queries(self, layer: LayerWeights, normed: torch.Tensor, rows: Activations, block: slice) -> None:
        projected = self.ops.linear(normed, layer.q)
        cos, sin = rows.cos[block], rows.sin[block]
        self.ops.rotate(projected, cos, sin, out=rows.queries[block], norm=layer.q_norm, eps=self.config.norm_eps)


def blocks(rows: torch.Tensor, size: int) -> Iterator[slice]:
    return (slice(first, first + size) for first in range(0, len(rows), size))
