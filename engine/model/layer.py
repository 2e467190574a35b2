"""One decoder layer over the rows of a pass: projections, attention, MLP.

Matrix products run on blocks of a fixed number of rows, so a row's bits do not depend on what else is in the pass.
Element-wise operations take chunks of several blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.model.experts import mixture
from preftree.engine.model.rotary import Rotary
from preftree.engine.weights.layers import ExpertsWeights, LayerWeights, MlpWeights
from preftree.kernels.tiles import Tiles


@dataclass
class Activations:
    """Those of one pass, reused by every layer.

    hidden: [rows, hidden], the residual stream. queries: [rows + 1, heads, size], overwritten by the attention output;
    the last row is the scratch row of tiles. rotary: angles of the rows in each of the model's rotary embeddings.
    """

    hidden: torch.Tensor
    queries: torch.Tensor
    rotary: tuple[Rotary, ...]


class DecoderLayer:
    """The arithmetic of a layer. Which rows there are, and where their K/V goes, is its caller's business.

    Everything that tells one layer from another (window, rotary embedding, norms) is in its LayerWeights.
    """

    def __init__(self, config: ModelConfig, ops: SimpleNamespace, expert_block: int, chunk_blocks: int = 1) -> None:
        """expert_block: rows that go through an expert at a time. chunk_blocks: row blocks of a chunk."""
        self.config = config
        self.ops = ops
        self._expert_block = expert_block
        self._chunk_blocks = chunk_blocks
        self._gate = {"silu": ops.swiglu, "gelu_tanh": ops.geglu}[config.activation]
        self._norms_width = config.family.qk_norm == "width"

    def project(
        self,
        layer: LayerWeights,
        rows: Activations,
        kv: torch.Tensor,
        row_block: int,
        queries: bool = True,
        slots: torch.Tensor | None = None,
    ) -> None:
        """Rotated keys and values of all rows into `kv` [rows, 2, kv_heads, size]; rotated queries where wanted.

        slots: [rows] int64, of each row in a longer `kv`.
        """
        for chunk in self._chunks(rows.hidden, row_block):
            normed = self._normed(rows.hidden[chunk], layer.attention_norm)
            into, own = (kv[chunk], None) if slots is None else (kv, slots[chunk])
            self._write_kv(layer, normed, rows.rotary[layer.rope][chunk], into, row_block, own)
            if queries:
                self._write_queries(layer, normed, rows, chunk, row_block)

    def project_queries(self, layer: LayerWeights, rows: Activations, row_block: int) -> None:
        """Rotated queries alone, of rows whose keys and values are there already."""
        for chunk in self._chunks(rows.hidden, row_block):
            normed = self._normed(rows.hidden[chunk], layer.attention_norm)
            self._write_queries(layer, normed, rows, chunk, row_block)

    def attend_and_mlp(
        self, layer: LayerWeights, tiles: Tiles, rows: Activations, kv: torch.Tensor, row_block: int
    ) -> None:
        """The rest of the layer, in place. kv: [slots, 2, kv_heads, size], what the tiles' paths name."""
        ops, hidden, queries, config = self.ops, rows.hidden, rows.queries, self.config
        scale, softcap = config.attention_scale, config.attention_softcap
        ops.tree_attention(queries, kv, tiles, out=queries, scale=scale, window=layer.window, softcap=softcap)
        for chunk in self._chunks(hidden, row_block):
            attended = ops.linear(queries[chunk].flatten(1), layer.o, row_block)
            update = self._normed(attended, layer.post_attention_norm)
            if layer.mlp is None:
                hidden[chunk] += update
                continue
            normed = self._added(hidden[chunk], update, layer.mlp_norm)
            hidden[chunk] += self._normed(self._mlp(layer.mlp, normed, row_block), layer.post_mlp_norm)
        if layer.experts is not None:
            hidden += self._normed(self._mixture(layer, layer.experts, hidden, row_block), layer.post_mlp_norm)

    def _chunks(self, rows: torch.Tensor, row_block: int) -> Iterator[slice]:
        size, end = row_block * self._chunk_blocks, len(rows)
        return (slice(first, min(first + size, end)) for first in range(0, end, size))

    def _normed(self, x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        return x if weight is None else self.ops.rms_norm(x, weight, self.config.norm_eps)

    def _added(self, hidden: torch.Tensor, update: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """Add `update` to `hidden` in place; the norm of the sum, or the sum where there is no norm."""
        if weight is None:
            return hidden.add_(update)
        return self.ops.add_rms_norm(hidden, update, weight, self.config.norm_eps)

    def _mlp(self, mlp: MlpWeights, x: torch.Tensor, row_block: int) -> torch.Tensor:
        linear = self.ops.linear
        return linear(self._gate(linear(x, mlp.gate_up, row_block)), mlp.down, row_block)

    def _mixture(
        self, layer: LayerWeights, experts: ExpertsWeights, hidden: torch.Tensor, row_block: int
    ) -> torch.Tensor:
        """What the experts make of all rows of the pass: of one block's, few would choose the same expert."""
        sizes = self.config.experts
        assert sizes is not None
        normed, router = torch.empty_like(hidden), hidden.new_empty(len(hidden), sizes.count)
        for chunk in self._chunks(hidden, row_block):
            normed[chunk] = self._normed(hidden[chunk], layer.mlp_norm)
            router[chunk] = self.ops.linear(normed[chunk], experts.router, row_block)
        weights, chosen = self.ops.route(router, sizes.per_token, sizes.normalised)
        mlps = [partial(self._mlp, mlp, row_block=self._expert_block) for mlp in experts.mlps]
        return mixture(normed, weights, chosen, mlps, self._expert_block)

    def _write_kv(
        self,
        layer: LayerWeights,
        normed: torch.Tensor,
        rotary: Rotary,
        out: torch.Tensor,
        row_block: int,
        slots: torch.Tensor | None,
    ) -> None:
        projected, norm, eps = self.ops.linear(normed, layer.kv, row_block), layer.k_norm, self.config.norm_eps
        if self._norms_width:
            keys = projected[:, : self.config.kv_size]
            keys.copy_(self.ops.rms_norm(keys.contiguous(), norm, eps))
            norm = None
        self.ops.store_kv(projected, rotary.cos, rotary.sin, out=out, norm=norm, eps=eps, slots=slots)

    def _write_queries(
        self, layer: LayerWeights, normed: torch.Tensor, rows: Activations, chunk: slice, row_block: int
    ) -> None:
        projected, norm, eps = self.ops.linear(normed, layer.q, row_block), layer.q_norm, self.config.norm_eps
        if self._norms_width:
            projected, norm = self.ops.rms_norm(projected, norm, eps), None
        rotary = rows.rotary[layer.rope][chunk]
        self.ops.rotate(projected, rotary.cos, rotary.sin, out=rows.queries[chunk], norm=norm, eps=eps)
