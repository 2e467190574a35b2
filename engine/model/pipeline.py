"""A stage of a pipeline by layers: consecutive layers on one device.

A model has one stage, or one for each device that it is divided over. What goes from stage to stage is the residual
stream; weights, K/V and what attention reads of a plan stay on their device. On GPUs stages overlap without more ado:
launches return at once, so the first device works on the next batch while later ones work on this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.device import Target
from preftree.engine.fitting import Placement
from preftree.engine.model.forward import CachedKv, ChunkedForward, Forward, Keep, Pass, WholeForward
from preftree.engine.model.kv import KvBuffers, KvStore
from preftree.engine.model.layer import Activations, DecoderLayer, TokenInputs
from preftree.engine.model.rotary import RotaryTables
from preftree.engine.planning.plan import Plan, moved_tiles
from preftree.engine.profiling import in_spans, span
from preftree.engine.weights.layers import LayerWeights, WeightProvider
from preftree.kernels.tiles import Move, Tiles


@dataclass(frozen=True)
class Stream:
    """What goes from layer to layer, and from device to device.

    hidden: [rows, hidden], the residual stream. inputs: None where no layer takes from them.
    """

    hidden: torch.Tensor
    inputs: TokenInputs | None = None

    def moved(self, move: Move) -> Stream:
        """On another device. torch orders the copy after what either device has been given before."""
        inputs = self.inputs
        if inputs is not None:
            inputs = TokenInputs(move(inputs.ids), move(inputs.embedded))
        return Stream(move(self.hidden), inputs)


class PipelineStage:
    """Layers of a model, on the device that has their weights."""

    def __init__(self, config: ModelConfig, weights: WeightProvider, target: Target, placement: Placement) -> None:
        """weights: of the whole model; those of the stage's layers are on its device."""
        self.config, self.device, self._placement, self._weights = config, placement.device, placement, weights
        self._dtype, self._layout = target.dtype, target.layout
        layer = DecoderLayer(config, in_spans(target.ops, self.device), target.dtype)
        self._rotary = RotaryTables(config, self.device, target.wide_dtype)
        # Decode steps have few rows: they go through each operation together everywhere.
        self._steps = WholeForward(layer, target.layout, self.device)
        in_chunks = target.layout.in_chunks
        self._forward: Forward = ChunkedForward(layer, target.layout, self.device) if in_chunks else self._steps

    def arrived(self, tensor: torch.Tensor) -> torch.Tensor:
        """`tensor` on this device; itself where it is there already."""
        return tensor.to(self.device, non_blocking=True)

    def run(self, plan: Plan, stream: Stream, cache: CachedKv | None, keep: Keep | None, with_finals: bool) -> Stream:
        """Run all rows of a plan through the layers.

        Args:
            plan: on this device, as is `stream`.
            stream: what the stage before gives.
            cache: K/V of the plan's prefix.
            keep: what becomes of K/V; None where none stays.
            with_finals: whether only final rows are wanted after the model's last layer; else none are.
        """
        rows = self._activations(stream, plan.depths, plan.rope_variant)
        kv = KvBuffers(self.config, self._layout.kv_buffers, plan.num_slots, self._dtype, self.device)
        choose = self._chosen if with_finals else None
        with self._layers() as layers:
            count, done = self.config.num_layers, self._weights.done
            after = self._forward.run(Pass(layers, done, count, plan, rows, kv, cache, keep, choose))
        return Stream(after.hidden, after.inputs)

    def step(self, stream: Stream, depths: torch.Tensor, slots: torch.Tensor, tiles: Tiles, store: KvStore) -> Stream:
        """Run one row for each of several sequences; what is needed is moved here. Arguments as in `Model.step`."""
        depths, slots = self.arrived(depths), self.arrived(slots)
        stream, tiles = stream.moved(self.arrived), moved_tiles(tiles, self.arrived)
        rows, block = self._activations(stream, depths), self._layout.step_block
        with self._layers() as layers:
            for index, layer in layers:
                with span(f"layer {index}", self.device):
                    kv = store.kv[index]
                    self._steps.project(layer, rows, kv, block, slots=slots)
                    self._steps.attend_and_mlp(layer, tiles, rows, kv, block)
                self._weights.done(index)
        return Stream(rows.hidden, rows.inputs)

    @contextmanager
    def _layers(self) -> Iterator[Iterator[tuple[int, LayerWeights]]]:
        own = self._placement.layers
        with self._weights.layers() as layers:
            yield enumerate(islice(layers, own.start, own.stop), own.start)

    def _activations(self, stream: Stream, depths: torch.Tensor, rope_variant: int = 0) -> Activations:
        queries = self._empty_queries(len(depths))
        return Activations(stream.hidden, queries, self._rotary.at(depths, rope_variant), stream.inputs)

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
        return tuple(torch.empty(shape, dtype=self._dtype, device=self.device) for shape in shapes)
