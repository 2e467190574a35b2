"""The forward pass: all unique tokens of a batch through layer 0, then layer 1, and so on."""

from __future__ import annotations

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.device import Target
from preftree.engine.memory import naming_device
from preftree.engine.model.forward import CachedKv, Keep
from preftree.engine.model.kv import Destination, KvStore, kv_of_layers
from preftree.engine.model.layer import TokenInputs, norms_of
from preftree.engine.model.pipeline import PipelineStage, Stream
from preftree.engine.planning.plan import Plan
from preftree.engine.profiling import in_spans
from preftree.engine.weights.layers import WeightProvider
from preftree.kernels.tiles import Tiles

# Elements to which rows of logits are aligned. torch's reductions on a GPU read 16 bytes at once from the first aligned
# element of a row on: in rows that begin elsewhere, they add in another order.
LOGIT_ALIGNMENT = 8


class Model:
    """A decoder over a plan. Knows rows, slots and tiles; nothing of prompts or labels.

    device: where results are read: that of the last stage.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: WeightProvider,
        target: Target,
    ) -> None:
        """weights: packed by the target's operations, on the devices of its stages."""
        self.config = config
        self.weights = weights
        self.device = target.device
        self.dtype = target.dtype
        self.layout = target.layout
        self.streams_layers = target.streams_layers
        self.ops = in_spans(target.ops, target.device)
        self._norm, _ = norms_of(config, self.ops)
        self._wide = target.wide_dtype
        self._placements = target.stages
        self._stages = [PipelineStage(config, weights, target, placement) for placement in target.stages]
        # Rounded first, as in transformers.
        self._embedding_scale = float(torch.tensor(config.embedding_scale, dtype=self.dtype))

    @property
    def num_stages(self) -> int:
        """Devices that share the layers."""
        return len(self._stages)

    @torch.inference_mode()
    def final_hidden(
        self, plan: Plan, cache: CachedKv | None = None, destination: Destination | None = None
    ) -> torch.Tensor:
        """Hidden states of the plan's final rows after the last norm: [padded finals, hidden].

        plan: on any device, or in memory that it is copied from. cache: K/V of the plan's prefix. destination: where
        K/V of the plan's rows is to stay.
        """
        keep = None if destination is None else destination.keep
        return self._last_norm(self._run(plan, cache, keep, with_finals=True))

    @torch.inference_mode()
    def prefix_kv(self, plan: Plan) -> tuple[torch.Tensor, ...]:
        """K/V of every layer for the plan's rows: [rows, 2, kv_heads, size]. The plan has no prefix."""
        kept = kv_of_layers(self.config, plan.num_rows, self.dtype, self._placements)

        def keep(index: int, rows: slice, kv: torch.Tensor) -> None:
            kept[index][rows] = kv

        self._run(plan, None, keep, with_finals=False)
        return kept

    def _run(self, plan: Plan, cache: CachedKv | None, keep: Keep | None, with_finals: bool) -> Stream:
        stream = None
        for stage in self._stages:
            with naming_device(stage.device):
                own = plan.moved(stage.arrived)
                stream = self._embedded(own.tokens) if stream is None else stream.moved(stage.arrived)
                stream = stage.run(own, stream, cache, keep, with_finals)
        assert stream is not None
        return stream

    @torch.inference_mode()
    def step(
        self, tokens: torch.Tensor, depths: torch.Tensor, slots: torch.Tensor, tiles: Tiles, store: KvStore
    ) -> torch.Tensor:
        """Run one row for each of several sequences; logits of what follows it, [rows, vocab] float32.

        tokens, depths, slots: [rows] int64, rows a multiple of the step block; a row's K/V goes to its slot in `store`.
        tiles: of the rows that count, whose paths lead through `store`.
        """
        stream = None
        for stage in self._stages:
            with naming_device(stage.device):
                stream = self._embedded(stage.arrived(tokens)) if stream is None else stream
                stream = stage.step(stream, depths, slots, tiles, store)
        assert stream is not None
        return self.next_logits(self._last_norm(stream))

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

    def _last_norm(self, stream: Stream) -> torch.Tensor:
        return self._norm(stream.hidden, self.weights.final_norm, self.config.norm_eps)

    def _embedded(self, tokens: torch.Tensor) -> Stream:
        """What goes into the first layer."""
        hidden = self.weights.embedding[tokens].to(self._wide)
        if self._embedding_scale != 1:
            hidden *= self._embedding_scale
        if self.config.per_layer_inputs is None:
            return Stream(hidden)
        return Stream(hidden, TokenInputs(tokens, hidden.to(self.dtype, copy=True)))
