"""One decoder layer over a chunk of rows: projections, attention, MLP.

Matrix products run on blocks of a fixed number of rows, so a row's bits do not depend on what else is in the pass.
Element-wise operations take all rows of the chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F

from preftree.engine.config.model_config import ExpertsConfig, ModelConfig
from preftree.engine.model.experts import Mixture, Routed
from preftree.engine.model.projections import Projections
from preftree.engine.model.rotary import Rotary
from preftree.engine.weights.layers import ExpertsWeights, LayerWeights, MlpWeights, PerLayerWeights
from preftree.kernels.quantized.fp8 import Fp8Linear, Fp8Rows
from preftree.kernels.tiles import Tiles


@dataclass(frozen=True)
class TokenInputs:
    """What rows are made of, for models in which every layer takes from it. ids: [rows]. embedded: [rows, hidden]."""

    ids: torch.Tensor
    embedded: torch.Tensor

    def __getitem__(self, rows: slice | torch.Tensor) -> TokenInputs:
        return TokenInputs(self.ids[rows], self.embedded[rows])


@dataclass
class Activations:
    """Those of one pass, reused by every layer.

    hidden: [rows, hidden], the residual stream. queries: [rows, heads, size] for each of `ModelConfig.heads`,
    overwritten by the attention output.
    rotary: angles of the rows in each of the model's rotary embeddings. inputs: None where no layer takes from them.
    """

    hidden: torch.Tensor
    queries: tuple[torch.Tensor, ...]
    rotary: tuple[Rotary, ...]
    inputs: TokenInputs | None = None

    def chunks(self, size: int) -> list[Activations]:
        """Views of `size` rows each, the last one of what remains."""
        starts = range(0, len(self.hidden), size)
        return [self._of(slice(first, min(first + size, len(self.hidden)))) for first in starts]

    def _of(self, rows: slice) -> Activations:
        queries = tuple(queries[rows] for queries in self.queries)
        inputs = None if self.inputs is None else self.inputs[rows]
        return Activations(self.hidden[rows], queries, tuple(rotary[rows] for rotary in self.rotary), inputs)


def norms_of(config: ModelConfig, ops: SimpleNamespace) -> tuple[Callable[..., torch.Tensor], ...]:
    """The norm of the residual stream, and that of its sum with an update."""
    return (ops.layer_norm, ops.add_layer_norm) if config.family.layer_norm else (ops.rms_norm, ops.add_rms_norm)


class DecoderLayer:
    """The arithmetic of a layer. Which rows there are, and where their K/V goes, is its caller's business.

    Everything that tells one layer from another (window, rotary embedding, norms) is in its LayerWeights.
    """

    def __init__(self, config: ModelConfig, ops: SimpleNamespace, dtype: torch.dtype) -> None:
        """dtype: of what matrices multiply; the residual stream's may be wider."""
        self.config = config
        self.ops = ops
        self._dtype = dtype
        self._norm, self._add_norm = norms_of(config, ops)
        self._has_fp8_norm = hasattr(ops, "fp8_norm")
        self._projections = Projections(config, ops)

    def project(
        self,
        layer: LayerWeights,
        rows: Activations,
        kv: torch.Tensor,
        row_block: int,
        queries: bool = True,
        slots: torch.Tensor | None = None,
        update: torch.Tensor | None = None,
    ) -> None:
        """Rotated keys and values of a chunk into `kv` [rows, 2, kv_heads, size]; rotated queries where wanted.

        slots: [rows] int64, of each row in a longer `kv`. update: what `finish` of the layer before has left to add.
        """
        normed = self._added(rows.hidden, update, layer.attention_norm, layer.queries)
        rotary = rows.rotary[layer.rope]
        to = rows.queries[layer.heads] if queries else None
        self._projections.write(layer, normed, rotary, to, kv, row_block, slots)

    def project_queries(self, layer: LayerWeights, rows: Activations, row_block: int) -> None:
        """Rotated queries alone, of a chunk whose keys and values are there already."""
        normed = self._added(rows.hidden, None, layer.attention_norm, layer.queries)
        rotary = rows.rotary[layer.rope]
        self._projections.write_queries(layer, normed, rotary, rows.queries[layer.heads], row_block)

    def attend(self, layer: LayerWeights, tiles: Tiles, rows: Activations, kv: torch.Tensor) -> None:
        """The attention of the tiles' rows, in place of their queries. kv: what the tiles' paths name."""
        scale, softcap = self.config.attention_scale, self.config.attention_softcap
        queries = rows.queries[layer.heads]
        options = {"scale": scale, "window": layer.window, "softcap": softcap, "sinks": layer.sinks}
        self.ops.tree_attention(queries, kv, tiles, out=queries, **options)

    def finish(self, layer: LayerWeights, rows: Activations, row_block: int) -> torch.Tensor | None:
        """What follows attention for a chunk, but for experts.

        Returns what is still to be added to the residual stream; None where nothing is. The norm that follows takes no
        pass over the stream more for it.
        """
        hidden = rows.hidden
        attended = rows.queries[layer.heads]
        if self.config.latent is not None:
            attended = attended[..., : self.config.latent.value]  # padding follows
        normed = None
        if layer.mlp is not None and self.config.family.parallel:
            # What attention read, which is cheaper to compute again than to keep.
            normed = self._added(hidden, None, layer.attention_norm, layer.mlp.gate_up)
        update = self._add_product(hidden, attended.flatten(1), layer.o, layer.post_attention_norm, row_block)
        if layer.mlp is None:
            _add(hidden, update)
            return None
        if normed is None:
            normed = self._added(hidden, update, layer.mlp_norm, layer.mlp.gate_up)
        else:
            _add(hidden, update)
        inner = self.ops.gated(normed, layer.mlp.gate_up, self.config.activation, row_block)
        update = self._add_product(hidden, inner, layer.mlp.down, layer.post_mlp_norm, row_block)
        if layer.per_layer is None and layer.scalar is None:
            return update
        _add(hidden, update)
        if layer.per_layer is not None:
            hidden.add_(self._per_layer(layer.per_layer, rows, row_block))
        if layer.scalar is not None:
            hidden.mul_(layer.scalar)
        return None

    def _per_layer(self, weights: PerLayerWeights, rows: Activations, row_block: int) -> torch.Tensor:
        """What the tokens' embeddings for this layer add to the residual stream."""
        inputs, size = rows.inputs, weights.table.shape[1]
        assert inputs is not None
        own = weights.table[inputs.ids] * torch.tensor(size**0.5, dtype=self._dtype)
        projected = self.ops.linear(inputs.embedded, weights.projection, row_block).mul_(self.config.hidden_size**-0.5)
        wanted = self._normed(projected, weights.projection_norm).add_(own).mul_(2**-0.5)
        gate = self.ops.linear(rows.hidden.to(self._dtype), weights.gate, row_block)
        gate = F.silu(gate) if self.config.activation == "silu" else F.gelu(gate, approximate="tanh")
        return self._normed(self.ops.linear(gate.mul_(wanted), weights.out, row_block), weights.norm)

    def finish_all(self, layer: LayerWeights, rows: Activations, row_block: int) -> None:
        """`finish`, and the addition."""
        _add(rows.hidden, self.finish(layer, rows, row_block))

    def mix(self, layer: LayerWeights, rows: Activations, row_block: int) -> None:
        """The experts, for a chunk that `finish` is done with."""
        mixture = self.mixture(layer, [self.routed(layer, rows, row_block)], row_block)
        mixture.multiply(self.config.activation)
        self.add_mixture(layer, rows, mixture, slice(0, len(rows.hidden)), row_block)

    def routed(self, layer: LayerWeights, rows: Activations, row_block: int) -> Routed:
        """What of a chunk goes into the experts, and into which."""
        experts, sizes = layer.experts, self.config.experts
        assert experts is not None
        assert sizes is not None
        x = self._input(rows.hidden, layer.mlp_norm)
        logits = self._route_logits(experts, x, row_block)
        # torch takes the sigmoid of what is not contiguous in another way, and a single chunk is not copied any more.
        gate = logits[:, sizes.count :].contiguous()
        return Routed(x, *self._route(experts, logits[:, : sizes.count], sizes), gate)

    def mixture(self, layer: LayerWeights, parts: Sequence[Routed], row_block: int) -> Mixture:
        """The layer's experts over some chunks."""
        assert layer.experts is not None
        assert self.config.experts is not None
        return Mixture(self.ops, layer.experts, self.config.experts.count, parts, row_block)

    def add_mixture(self, layer: LayerWeights, rows: Activations, mixture: Mixture, own: slice, row_block: int) -> None:
        """To the residual stream of a chunk, what its experts and the shared one say. own: the chunk's rows there."""
        assert layer.experts is not None
        update = mixture.combined(own)
        if layer.experts.shared is not None:
            update += self._shared(layer.experts.shared, mixture.x[own], mixture.gate[own], row_block)
        rows.hidden.add_(self._scaled(self._normed(update, layer.post_mlp_norm)))

    def _route_logits(self, experts: ExpertsWeights, x: torch.Tensor, row_block: int) -> torch.Tensor:
        """float32 where sigmoids decide, as in transformers."""
        return self.ops.linear(x if experts.correction is None else x.float(), experts.router, row_block)

    def _route(
        self, experts: ExpertsWeights, logits: torch.Tensor, sizes: ExpertsConfig
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if experts.correction is None:
            return self.ops.route(logits, sizes.per_token, sizes.normalised)
        groups = sizes.groups, sizes.kept_groups
        return self.ops.route_by_sigmoid(
            logits, experts.correction, sizes.per_token, sizes.normalised, *groups, sizes.scaling
        )

    def _shared(self, mlp: MlpWeights, x: torch.Tensor, gate: torch.Tensor, row_block: int) -> torch.Tensor:
        """Of the expert that every row goes through. gate: [rows, 1], or [rows, 0] where it counts in full."""
        given = self._mlp(mlp, x, row_block)
        return given.mul_(gate.sigmoid()) if gate.shape[1] else given

    def _scaled(self, update: torch.Tensor) -> torch.Tensor:
        """`update` itself, in the size in which it joins the residual stream."""
        factor = self.config.residual_multiplier
        return update if factor == 1 else update.mul_(factor)

    def _normed(self, x: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        return x if weight is None else self._norm(x, weight, self.config.norm_eps)

    def _input(self, hidden: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """What a projection multiplies: the residual stream, normed where there is a norm."""
        if weight is None or hidden.dtype == self._dtype:
            return self._normed(hidden, weight).to(self._dtype)
        return self._norm(hidden, weight, self.config.norm_eps, self._dtype)

    def _add_product(
        self,
        hidden: torch.Tensor,
        x: torch.Tensor,
        packed: Any,
        post_norm: torch.Tensor | None,
        row_block: int,
    ) -> torch.Tensor | None:
        """Add a product of x to `hidden` in place; or return what is still to be added, as `finish` does."""
        if post_norm is None:
            return self.ops.add_linear(hidden, x, packed, row_block, self.config.residual_multiplier)
        return self._scaled(self._normed(self.ops.linear(x, packed, row_block), post_norm))

    def _added(
        self, hidden: torch.Tensor, update: torch.Tensor | None, weight: torch.Tensor | None, packed: Any
    ) -> torch.Tensor | Fp8Rows:
        """Add `update`, if any, to `hidden` in place; the norm of the sum, or the sum where there is no norm.

        packed: what the result is multiplied with, so that the norm may end in its type.
        """
        if self._has_fp8_norm and isinstance(packed, Fp8Linear) and weight is not None:
            eps, is_centred = self.config.norm_eps, self.config.family.layer_norm
            quantised: Fp8Rows = self.ops.fp8_norm(hidden, update, weight, eps, is_centred)
            return quantised
        if update is None:
            return self._input(hidden, weight)
        if weight is None:
            return hidden.add_(update).to(self._dtype)
        return self._add_norm(hidden, update, weight, self.config.norm_eps)

    def _mlp(self, mlp: MlpWeights, x: torch.Tensor, row_block: int) -> torch.Tensor:
        inner = self.ops.gated(x, mlp.gate_up, self.config.activation, row_block)
        return self.ops.linear(inner, mlp.down, row_block)


def _add(hidden: torch.Tensor, update: torch.Tensor | None) -> None:
    if update is not None:
        hidden.add_(update)
