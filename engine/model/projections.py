"""Queries, keys and values of a layer's attention: products, norms of heads, rotation, the writes to their places.

Where the kernels take all three as one matrix, one product gives them, and one pass over its result does the rest.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.model.latent import keys_values, query_latent
from preftree.engine.model.rotary import Rotary
from preftree.engine.weights.layers import LayerWeights
from preftree.kernels.quantized.fp8 import Fp8Rows


class Projections:
    """From normed hidden states to what attention reads."""

    def __init__(self, config: ModelConfig, ops: SimpleNamespace) -> None:
        self._config, self._ops = config, ops
        self._norms_width = config.family.qk_norm == "width"

    def write(
        self,
        layer: LayerWeights,
        normed: torch.Tensor | Fp8Rows,
        rotary: Rotary,
        queries: torch.Tensor | None,
        kv: torch.Tensor,
        row_block: int,
        slots: torch.Tensor | None = None,
    ) -> None:
        """Rotated keys and values of `normed` [rows, hidden] into `kv` [rows, 2, kv_heads, size].

        Where they are the layer's own. queries: where rotated queries go, [rows, heads, size]; None where nobody wants
        them. slots: [rows] int64, of each row in a longer `kv`.
        """
        if layer.qkv is not None and queries is not None:
            self._write_all(layer, normed, rotary, queries, kv, row_block, slots)
            return
        if layer.has_kv:
            self._write_kv(layer, normed, rotary, kv, row_block, slots)
        if queries is not None:
            self.write_queries(layer, normed, rotary, queries, row_block)

    def write_queries(
        self, layer: LayerWeights, normed: torch.Tensor | Fp8Rows, rotary: Rotary, out: torch.Tensor, row_block: int
    ) -> None:
        """Rotated queries of `normed` into `out` [rows, heads, size]."""
        normed = query_latent(self._ops, layer, normed, row_block)
        norm, eps = layer.q_norm, self._config.norm_eps
        projected = self._ops.linear(normed, layer.queries, row_block)
        if self._norms_width:
            projected, norm = self._ops.rms_norm(projected, norm, eps), None
        rotary = rotary.queries or rotary
        self._ops.rotate(projected, rotary.cos, rotary.sin, out=out, norm=norm, eps=eps)
        _scale(out, layer.query_scale)

    def _write_all(
        self,
        layer: LayerWeights,
        normed: torch.Tensor | Fp8Rows,
        rotary: Rotary,
        queries: torch.Tensor,
        kv: torch.Tensor,
        row_block: int,
        slots: torch.Tensor | None,
    ) -> None:
        projected, of_queries = self._ops.linear(normed, layer.qkv, row_block), rotary.queries or rotary
        self._ops.store_qkv(
            projected,
            of_queries=(of_queries.cos, of_queries.sin),
            of_keys=(rotary.cos, rotary.sin),
            queries=queries,
            kv=kv,
            norms=None if layer.q_norm is None else (layer.q_norm, layer.k_norm),
            eps=self._config.norm_eps,
            slots=slots,
        )
        _scale(queries, layer.query_scale)

    def _write_kv(
        self,
        layer: LayerWeights,
        normed: torch.Tensor | Fp8Rows,
        rotary: Rotary,
        out: torch.Tensor,
        row_block: int,
        slots: torch.Tensor | None,
    ) -> None:
        projected, norm, eps = self._keys_values(layer, normed, row_block), layer.k_norm, self._config.norm_eps
        if self._norms_width:
            keys = projected[:, : self._config.kv_size]
            keys.copy_(self._ops.rms_norm(keys.contiguous(), norm, eps))
            norm = None
        if layer.v_norm is not None:
            values = projected[:, projected.shape[1] // 2 :].unflatten(1, (-1, len(layer.v_norm)))
            values.copy_(self._ops.rms_norm(values.flatten(0, 1).contiguous(), layer.v_norm, eps).view_as(values))
        self._ops.store_kv(projected, rotary.cos, rotary.sin, out=out, norm=norm, eps=eps, slots=slots)

    def _keys_values(self, layer: LayerWeights, normed: torch.Tensor | Fp8Rows, row_block: int) -> torch.Tensor:
        """[rows, 2 * kv_heads * size], keys first."""
        if self._config.latent is None:
            return self._ops.linear(normed, layer.keys_values, row_block)
        return keys_values(self._ops, layer, self._config.latent, normed, row_block)


def _scale(queries: torch.Tensor, scale: torch.Tensor | None) -> None:
    if scale is not None:
        queries.mul_(scale)
