"""The forward pass: all unique tokens of a batch through layer 0, then layer 1, and so on."""

from __future__ import annotations

from collections.abc import Callable

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.device import Target
from preftree.engine.model.forward import CachedKv, ChunkedForward, Forward, Keep, Pass, WholeForward
from preftree.engine.model.kv import Destination, KvBuffers, KvStore, kv_of_layers
from preftree.engine.model.layer import Activations, DecoderLayer, TokenInputs, norms_of
from preftree.engine.model.rotary import RotaryTables
from preftree.engine.planning.plan import Plan
from preftree.engine.profiling import in_spans, span
from preftree.engine.weights.layers import WeightProvider
from preftree.kernels.tiles import Tiles

# Elements to which rows of logits are aligned. torch's reductions on a GPU read 16 bytes at once from the first aligned
# element of a row on: in rows that begin elsewhere, they add in another order.
LOGIT_ALIGNMENT = 8


class Model:
    """A decoder over a plan. Knows rows, slots and tiles; nothing of prompts or labels."""

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
        layout = self.layout
        self._norm, _ = norms_of(config, self.ops)
        layer = DecoderLayer(config, self.ops, self.dtype)
        self._wide = torch.float32 if layout.is_wide else self.dtype
        self._rotary = RotaryTables(config, self.device, self._wide)
        # Decode steps have few rows: they go through each operation together everywhere.
        self._steps = WholeForward(layer, layout, self.device)
        self._forward: Forward = ChunkedForward(layer, layout, self.device) if layout.in_chunks else self._steps
        # Rounded first, as in transformers.
        self._embedding_scale = float(torch.tensor(config.embedding_scale, dtype=self.dtype))

    @torch.inference_mode()
    def final_hidden(
        self, plan: Plan, cache: CachedKv | None = None, destination: Destination | None = None
    ) -> torch.Tensor:
        """Hidden states of the plan's final rows after the last norm: [padded finals, hidden].

        cache: K/V of the plan's prefix. destination: where K/V of the plan's rows is to stay.
        """
        keep = None if destination is None else destination.keep
        rows = self._run(plan, cache, keep, self._chosen)
        assert rows is not None
        return self._last_norm(rows)

    @torch.inference_mode()
    def prefix_kv(self, plan: Plan) -> tuple[torch.Tensor, ...]:
        """K/V of every layer for the plan's rows: [rows, 2, kv_heads, size]. The plan has no prefix."""
        kept = kv_of_layers(self.config, plan.num_rows, self.dtype, self.device)

        def keep(index: int, rows: slice, kv: torch.Tensor) -> None:
            kept[index][rows] = kv

        self._run(plan, None, keep, None)
        return kept

    def _run(
        self,
        plan: Plan,
        cache: CachedKv | None,
        keep: Keep | None,
        choose: Callable[[Activations, torch.Tensor], Activations] | None,
    ) -> Activations | None:
        rows = self._start(plan.tokens, plan.depths, plan.rope_variant)
        kv = KvBuffers(self.config, self.layout.kv_buffers, plan.num_slots, self.dtype, self.device)
        layers = enumerate(self.weights.layers())
        return self._forward.run(Pass(layers, self.config.num_layers, plan, rows, kv, cache, keep, choose))

    @torch.inference_mode()
    def step(
        self, tokens: torch.Tensor, depths: torch.Tensor, slots: torch.Tensor, tiles: Tiles, store: KvStore
    ) -> torch.Tensor:
        """Run one row for each of several sequences; logits of what follows it, [rows, vocab] float32.

        tokens, depths, slots: [rows] int64, rows a multiple of the step block; a row's K/V goes to its slot in `store`.
        tiles: of the rows that count, whose paths lead through `store`.
        """
        rows, block = self._start(tokens, depths), self.layout.step_block
        for index, layer in enumerate(self.weights.layers()):
            with span(f"layer {index}", self.device):
                kv = store.kv[index]
                self._steps.project(layer, rows, kv, block, slots=slots)
                self._steps.attend_and_mlp(layer, tiles, rows, kv, block)
        return self.next_logits(self._last_norm(rows))

    @torch.inference_mode()
    def next_logits(self, final_hidden: torch.Tensor) -> torch.Tensor:
        """Logits of the whole vocabulary, [rows, aligned vocab] float32, -inf beyond the vocabulary.

        final_hidden: [rows, hidden], rows a multiple of the step block.
        """
        vocab, softcap = self.config.vocab_size, self.config.final_softcap
        aligned = -(-vocab // LOGIT_ALIGNMENT) * LOGIT_ALIGNMENT
        logits = torch.full((len(final_hidden), aligned), float("-inf"), device=self.device)
        step_block = self.layout.step_block
        for rows, out in zip(final_hidden.split(step_block), logits[:, :vocab].split(step_block), strict=True):
            found = self.ops.token_logits(rows, self.weights.head)
            out.copy_(found if softcap is None else found.div_(softcap).tanh_().mul_(softcap))
        return logits

    def most_probable(self, final_hidden: torch.Tensor) -> torch.Tensor:
        """The token that greedy decoding would choose after each row, [rows] int64. final_hidden: as in `next_logits`.

        Another pass over the output matrix, for those who ask; logits of a few rows at a time are in memory.
        """
        parts = final_hidden.split(self.layout.step_block)
        return torch.cat([self.next_logits(part).argmax(-1) for part in parts])

    def label_logits(
        self, final_hidden: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of `tokens` [queries] at places `rows` [queries] of `final_hidden`, and every place's log-sum-exp."""
        with torch.inference_mode():
            softcap = self.config.final_softcap
            logits, normaliser = self.ops.label_head(final_hidden, self.weights.head, rows, tokens, softcap=softcap)
        return logits, normaliser

    def rewards(self, final_hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """What the head of a reward model says of places `rows` [queries] of `final_hidden`: [queries] float32."""
        with torch.inference_mode():
            return self.ops.scalar_head(final_hidden, self.weights.head, rows)

    def _last_norm(self, rows: Activations) -> torch.Tensor:
        return self._norm(rows.hidden, self.weights.final_norm, self.config.norm_eps)

    def _start(self, tokens: torch.Tensor, depths: torch.Tensor, rope_variant: int = 0) -> Activations:
        hidden = self.weights.embedding[tokens].to(self._wide)
        if self._embedding_scale != 1:
            hidden *= self._embedding_scale
        inputs = None
        if self.config.per_layer_inputs is not None:
            inputs = TokenInputs(tokens, hidden.to(self.dtype, copy=True))
        return Activations(hidden, self._empty_queries(len(tokens)), self._rotary.at(depths, rope_variant), inputs)

    def _chosen(self, rows: Activations, chosen: torch.Tensor) -> Activations:
        """Only `chosen` rows go on in the last layer; K and V of all rows stay."""
        return Activations(
            hidden=rows.hidden[chosen],
            queries=self._empty_queries(len(chosen)),
            rotary=tuple(rotary[chosen] for rotary in rows.rotary),
            inputs=None if rows.inputs is None else rows.inputs[chosen],
        )

    def _empty_queries(self, rows: int) -> tuple[torch.Tensor, ...]:
        shapes = ((rows, heads.count, heads.size) for heads in self.config.heads)
        return tuple(torch.empty(shape, dtype=self.dtype, device=self.device) for shape in shapes)
