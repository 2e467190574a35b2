"""The forward pass: all unique tokens of a batch through layer 0, then layer 1, and so on.

A layer's K and V are read by that layer alone, so one K/V buffer serves all of them. Linear layers run on blocks of
a fixed number of rows, attention on tiles cut at fixed depths: a row's bits do not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from engine.loading.config import ModelConfig
from engine.loading.rope import rope_frequencies
from engine.planning.plan import Plan
from engine.running.prefix_cache import PrefixCache
from engine.running.spans import in_spans, span
from engine.running.weights import LayerWeights, WeightProvider
from engine.target import Target
from kernels.tiles import Tiles


@dataclass
class _Buffers:
    """One batch's activations, reused by every layer.

    hidden: [rows, hidden], the residual stream. queries: [rows + 1, heads, size], overwritten by the attention output;
    the last row is the scratch row of tiles. kv: [slots, 2, kv_heads, size]. cos, sin: [rows, size / 2].
    """

    hidden: torch.Tensor
    queries: torch.Tensor
    kv: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor


class Model:
    """A Llama-shaped decoder over a plan. Knows rows, slots and tiles; nothing of prompts or labels."""

    def __init__(
        self,
        config: ModelConfig,
        weights: WeightProvider,
        target: Target,
    ) -> None:
        """weights: packed by the target's operations, on its device."""
        self.config = config
        self.weights = weights
        self.device = target.device
        self.dtype = target.dtype
        self.layout = target.layout
        self.ops = in_spans(target.ops, target.device)
        self._frequencies = torch.from_numpy(rope_frequencies(config.rope, config.head_dim)).to(self.device)

    @torch.inference_mode()
    def final_hidden(self, plan: Plan, cache: PrefixCache | None = None) -> torch.Tensor:
        """Hidden states of the plan's final rows after the last norm: [padded finals, hidden]."""
        buffers = self._start(plan)
        for index, layer in self._layers():
            is_last = index == self.config.num_layers - 1
            cached = cache.layer(index, plan.prefix) if cache else None
            self._project(layer, plan, buffers, cached, queries=not is_last)
            if not is_last:
                self._attend_and_mlp(layer, plan.tiles, buffers, self.layout.row_block)
                continue
            buffers = self._keep_finals(plan, buffers)
            self._project_final_queries(layer, buffers)
            self._attend_and_mlp(layer, plan.final_tiles, buffers, self.layout.final_row_block)
        return self.ops.rms_norm(buffers.hidden, self.weights.final_norm, self.config.norm_eps)

    @torch.inference_mode()
    def prefix_kv(self, plan: Plan) -> torch.Tensor:
        """K/V of every layer for the plan's rows: [layers, rows, 2, kv_heads, size]. The plan has no prefix."""
        buffers = self._start(plan)
        kept = self._empty(self.config.num_layers, plan.num_rows, *buffers.kv.shape[1:])
        for index, layer in self._layers():
            is_last = index == self.config.num_layers - 1
            self._project(layer, plan, buffers, cached=None, queries=not is_last)
            kept[index] = buffers.kv[: plan.num_rows]
            if not is_last:
                self._attend_and_mlp(layer, plan.tiles, buffers, self.layout.row_block)
        return kept

    def label_logits(
        self, final_hidden: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of `tokens` [queries] at places `rows` [queries] of `final_hidden`, and every place's log-sum-exp."""
        with torch.inference_mode():
            logits, normaliser = self.ops.label_head(final_hidden, self.weights.head, rows, tokens)
        return logits, normaliser

    def _layers(self) -> Iterator[tuple[int, LayerWeights]]:
        """Every layer with its number, in a span of its own that lasts until the next is asked for."""
        for index, layer in enumerate(self.weights.layers()):
            with span(f"layer {index}", self.device):
                yield index, layer

    def _start(self, plan: Plan) -> _Buffers:
        config, rows = self.config, len(plan.tokens)
        angles = plan.depths.unsqueeze(1) * self._frequencies
        return _Buffers(
            hidden=self.weights.embedding[plan.tokens],
            queries=self._empty_queries(rows),
            kv=self._empty(plan.num_slots, 2, config.num_kv_heads, config.head_dim),
            cos=angles.cos().to(self.dtype),
            sin=angles.sin().to(self.dtype),
        )

    def _empty_queries(self, rows: int) -> torch.Tensor:
        queries = self._empty(rows + 1, self.config.num_heads, self.config.head_dim)
        queries[-1] = 0  # the scratch row
        return queries

    def _empty(self, *shape: int) -> torch.Tensor:
        return torch.empty(*shape, dtype=self.dtype, device=self.device)

    def _keep_finals(self, plan: Plan, buffers: _Buffers) -> _Buffers:
        """Only final rows go on in the last layer; K and V of all rows stay."""
        rows = plan.final_rows
        return _Buffers(
            hidden=buffers.hidden[rows],
            queries=self._empty_queries(len(rows)),
            kv=buffers.kv,
            cos=buffers.cos[rows],
            sin=buffers.sin[rows],
        )

    def _project(
        self, layer: LayerWeights, plan: Plan, buffers: _Buffers, cached: torch.Tensor | None, queries: bool = True
    ) -> None:
        """Rotated keys and values of all rows into their slots behind the cached ones; rotated queries where wanted."""
        ops = self.ops
        if cached is not None:
            buffers.kv[: plan.prefix] = cached
        for block in _blocks(buffers.hidden, self.layout.row_block):
            slots = slice(plan.prefix + block.start, plan.prefix + block.stop)
            normed = ops.rms_norm(buffers.hidden[block], layer.attention_norm, self.config.norm_eps)
            projected = ops.linear(normed, layer.kv)
            cos, sin = buffers.cos[block], buffers.sin[block]
            ops.store_kv(projected, cos, sin, out=buffers.kv[slots], norm=layer.k_norm, eps=self.config.norm_eps)
            if queries:
                self._write_queries(layer, normed, buffers, block)

    def _project_final_queries(self, layer: LayerWeights, buffers: _Buffers) -> None:
        for block in _blocks(buffers.hidden, self.layout.final_row_block):
            normed = self.ops.rms_norm(buffers.hidden[block], layer.attention_norm, self.config.norm_eps)
            self._write_queries(layer, normed, buffers, block)

    def _write_queries(self, layer: LayerWeights, normed: torch.Tensor, buffers: _Buffers, block: slice) -> None:
        projected = self.ops.linear(normed, layer.q)
        cos, sin = buffers.cos[block], buffers.sin[block]
        self.ops.rotate(projected, cos, sin, out=buffers.queries[block], norm=layer.q_norm, eps=self.config.norm_eps)

    def _attend_and_mlp(self, layer: LayerWeights, tiles: Tiles, buffers: _Buffers, row_block: int) -> None:
        """The rest of the layer, in place."""
        ops, hidden, queries = self.ops, buffers.hidden, buffers.queries
        ops.tree_attention(queries, buffers.kv, tiles, out=queries)
        for block in _blocks(hidden, row_block):
            update = ops.linear(queries[block].flatten(1), layer.o)
            normed = ops.add_rms_norm(hidden[block], update, layer.mlp_norm, self.config.norm_eps)
            hidden[block] += ops.linear(ops.swiglu(ops.linear(normed, layer.gate_up)), layer.down)


def _blocks(rows: torch.Tensor, size: int) -> Iterator[slice]:
    return (slice(first, first + size) for first in range(0, len(rows), size))
