"""The layers over the rows of a plan, in the way that suits the device.

A layer's K and V are read by that layer alone, so a few K/V buffers serve all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from preftree.engine.model.experts import Mixture, Routed
from preftree.engine.model.kv import KvBuffers
from preftree.engine.model.layer import Activations, DecoderLayer
from preftree.engine.model.workers import Stage, run_stages
from preftree.engine.planning.plan import Plan
from preftree.engine.profiling import span
from preftree.engine.weights.layers import LayerWeights
from preftree.kernels.tiles import PlanLayout, Tiles

# Parts that experts are shared out in, for each thread: they differ in how many rows they have.
PARTS_A_THREAD = 8


class CachedKv(Protocol):
    """K/V that a batch begins with."""

    def layer(self, index: int, length: int) -> torch.Tensor:
        """K/V of the first `length` tokens in one layer: [length, 2, kv_heads, size]."""
        ...


# What becomes of K/V: number of the layer, which rows of the plan, and theirs [rows, 2, kv_heads, size].
Keep = Callable[[int, slice, torch.Tensor], None]


@dataclass(frozen=True)
class Pass:
    """One forward pass through the layers of a stage. layers: their number and weights, one after the other.

    done: called with the number of a layer that nothing reads any more, see `WeightProvider`. count: of the model.
    keep: None where no K/V stays.
    choose: activations of the final rows in a chunk of their own, None where only K/V is wanted.
    """

    layers: Iterator[tuple[int, LayerWeights]]
    done: Callable[[int], None]
    count: int
    plan: Plan
    rows: Activations
    kv: KvBuffers
    cache: CachedKv | None
    keep: Keep | None
    choose: Callable[[Activations, torch.Tensor], Activations] | None

    def is_last(self, index: int) -> bool:
        return index == self.count - 1


class Forward(Protocol):
    """Runs the layers of a pass."""

    def run(self, one: Pass) -> Activations:
        """Activations of all rows; after the model's last layer of the final rows, where they are wanted."""
        ...


class WholeForward:
    """For a GPU: every operation takes all rows, or as many as one launch is good for."""

    def __init__(self, layer: DecoderLayer, layout: PlanLayout, device: torch.device) -> None:
        self._layer, self._layout, self._device = layer, layout, device

    def run(self, one: Pass) -> Activations:
        plan, rows, layout = one.plan, one.rows, self._layout
        for index, layer in one.layers:
            kv = one.kv.views[one.kv.place(index)]
            with span(f"layer {index}", self._device):
                if one.cache is not None and layer.has_kv:
                    kv[: plan.prefix] = one.cache.layer(index, plan.prefix)
                self.project(layer, rows, kv[plan.prefix :], layout.row_block, queries=not one.is_last(index))
                if one.keep is not None and layer.has_kv:
                    one.keep(index, slice(0, plan.num_rows), kv[plan.prefix : plan.prefix + plan.num_rows])
                if not one.is_last(index):
                    self.attend_and_mlp(layer, plan.tiles, rows, kv, layout.row_block)
                    one.done(index)
                    continue
                if one.choose is None:
                    return rows
                rows = one.choose(rows, plan.final_rows)
                for chunk in rows.chunks(layout.final_row_block * layout.chunk_blocks):
                    self._layer.project_queries(layer, chunk, layout.final_row_block)
                self.attend_and_mlp(layer, plan.final_tiles, rows, kv, layout.final_row_block)
        return rows

    def project(
        self,
        layer: LayerWeights,
        rows: Activations,
        kv: torch.Tensor,
        row_block: int,
        queries: bool = True,
        slots: torch.Tensor | None = None,
    ) -> None:
        """`DecoderLayer.project`, for all rows."""
        size = row_block * self._layout.chunk_blocks
        for number, chunk in enumerate(rows.chunks(size)):
            part = slice(number * size, number * size + len(chunk.hidden))
            into, own = (kv[part], None) if slots is None else (kv, slots[part])
            self._layer.project(layer, chunk, into, row_block, queries, own)

    def attend_and_mlp(
        self, layer: LayerWeights, tiles: Tiles, rows: Activations, kv: torch.Tensor, row_block: int
    ) -> None:
        """The rest of the layer, for all rows."""
        chunks = rows.chunks(row_block * self._layout.chunk_blocks)
        self._layer.attend(layer, tiles, rows, kv)
        for chunk in chunks:
            self._layer.finish_all(layer, chunk, row_block)
            if layer.experts is not None:
                self._layer.mix(layer, chunk, row_block)


class ChunkedForward:
    """For a CPU: every thread takes a chunk of rows through a layer and on to the next layer's projections."""

    def __init__(self, layer: DecoderLayer, layout: PlanLayout, device: torch.device) -> None:
        self._layer, self._layout, self._device = layer, layout, device

    def run(self, one: Pass) -> Activations:
        work = _ChunkedPass(self._layer, self._layout, self._device, one)
        run_stages(work.stages())
        return work.after


class _ChunkedPass:
    """The stages of one pass. after: what it gives, once it is done."""

    def __init__(self, layer: DecoderLayer, layout: PlanLayout, device: torch.device, one: Pass) -> None:
        self.after = one.rows
        self._layer, self._device, self._one, self._row_block = layer, device, one, layout.row_block
        self._final_block, self._threads = layout.final_row_block, layout.threads
        size = one.plan.chunk_rows
        self._chunks = one.rows.chunks(size)
        slots = range(one.plan.prefix, len(one.kv.views[0]), size)
        self._kv = [[kv[first : first + size] for first in slots] for kv in one.kv.views]
        assert isinstance(one.plan.tiles, tuple)
        assert isinstance(one.plan.final_tiles, tuple)
        self._tiles, self._final_tiles = one.plan.tiles, one.plan.final_tiles

    def stages(self) -> Iterator[Stage]:
        index, layer = next(self._one.layers)
        yield Stage(partial(self._project, index, layer), len(self._chunks))
        for following in self._one.layers:
            yield from self._layer_stages(index, layer, following)
            index, layer = following
        if not self._one.is_last(index):
            yield from self._closing_stages(index, layer)
        elif self._one.choose is not None:
            yield from self._final_stages(index, layer, self._one.choose)

    def _layer_stages(self, index: int, layer: LayerWeights, following: tuple[int, LayerWeights]) -> Iterator[Stage]:
        """The rest of a layer, and the projections of the next."""

        def both(chunk: int) -> None:
            self._project(*following, chunk, self._finish(index, layer, chunk))

        done = partial(self._one.done, index)
        if layer.experts is None:
            yield Stage(both, len(self._chunks), then=done)
            return
        yield Stage(partial(self._finish, index, layer), len(self._chunks))
        chunks = self._chunks
        yield from self._mixture(layer, chunks, len(chunks), self._one.plan.chunk_rows, self._row_block, done)
        yield Stage(partial(self._project, *following), len(self._chunks))

    def _closing_stages(self, index: int, layer: LayerWeights) -> Iterator[Stage]:
        """The rest of the last layer on this device."""

        def whole(chunk: int) -> None:
            with span(f"layer {index}", self._device):
                self._layer.attend(layer, self._tiles[chunk : chunk + 1], self._one.rows, self._kv_of(index))
                self._layer.finish_all(layer, self._chunks[chunk], self._row_block)

        yield Stage(whole, len(self._chunks))
        if layer.experts is not None:
            chunks = self._chunks
            yield from self._mixture(layer, chunks, len(chunks), self._one.plan.chunk_rows, self._row_block)

    def _project(self, index: int, layer: LayerWeights, chunk: int, update: torch.Tensor | None = None) -> None:
        one, place = self._one, self._one.kv.place(index)
        kv, prefix = self._kv[place][chunk], one.plan.prefix
        if one.cache is not None and layer.has_kv and chunk == 0:
            one.kv.views[place][:prefix] = one.cache.layer(index, prefix)
        rows, with_queries = self._chunks[chunk], not one.is_last(index)
        self._layer.project(layer, rows, kv, self._row_block, with_queries, update=update)
        if one.keep is not None and layer.has_kv:
            first = chunk * len(self._chunks[0].hidden)
            kept = slice(first, min(first + len(kv), one.plan.num_rows))
            one.keep(index, kept, kv[: kept.stop - kept.start])

    def _finish(self, index: int, layer: LayerWeights, chunk: int) -> torch.Tensor | None:
        """What is still to be added to the chunk's residual stream, see `DecoderLayer.finish`."""
        with span(f"layer {index}", self._device):
            self._layer.attend(layer, self._tiles[chunk : chunk + 1], self._one.rows, self._kv_of(index))
            return self._layer.finish(layer, self._chunks[chunk], self._row_block)

    def _kv_of(self, index: int) -> torch.Tensor:
        return self._one.kv.views[self._one.kv.place(index)]

    def _mixture(
        self,
        layer: LayerWeights,
        chunks: Sequence[Activations],
        number: int,
        size: int,
        row_block: int,
        done: Callable[[], object] | None = None,
    ) -> Iterator[Stage]:
        """Chunks choose experts, threads share out the experts with the rows of all chunks, chunks add theirs up.

        chunks: there may be none before the first stage runs. number: how many there are. size: their rows. done:
        called after all.
        """
        arithmetic = self._layer
        assert arithmetic.config.experts is not None
        count = arithmetic.config.experts.count
        routed: list[Routed | None] = [None] * number
        mixtures: list[Mixture] = []

        def route(chunk: int) -> None:
            routed[chunk] = arithmetic.routed(layer, chunks[chunk], row_block)

        def sort(_: int) -> None:
            mixtures.append(arithmetic.mixture(layer, [part for part in routed if part is not None], row_block))
            routed.clear()

        def multiply(part: int) -> None:
            mixtures[0].multiply(arithmetic.config.activation, numbers=range(part, count, parts))

        def add(chunk: int) -> None:
            rows = chunks[chunk]
            own = slice(chunk * size, chunk * size + len(rows.hidden))
            arithmetic.add_mixture(layer, rows, mixtures[0], own, row_block)

        # Not torch's number of threads, which in a thread that computes is 1.
        parts = min(count, PARTS_A_THREAD * self._threads)
        yield Stage(route, number)
        yield Stage(sort, 1)
        yield Stage(multiply, parts, waits=True)
        yield Stage(add, number, waits=True, then=done)

    def _final_stages(
        self, index: int, layer: LayerWeights, choose: Callable[[Activations, torch.Tensor], Activations]
    ) -> Iterator[Stage]:
        """The last layer, of which only final rows are wanted."""
        chunks: list[Activations] = []

        def chosen(_: int) -> None:
            self.after = choose(self._one.rows, self._one.plan.final_rows)
            chunks[:] = self.after.chunks(self._final_block)

        def last(chunk: int) -> None:
            with span(f"layer {index}", self._device):
                self._layer.project_queries(layer, chunks[chunk], self._final_block)
                tiles = self._final_tiles[chunk : chunk + 1]
                self._layer.attend(layer, tiles, self.after, self._kv_of(index))
                self._layer.finish_all(layer, chunks[chunk], self._final_block)

        number = len(self._one.plan.final_rows) // self._final_block
        yield Stage(chosen, 1)
        yield Stage(last, number)
        if layer.experts is not None:
            yield from self._mixture(layer, chunks, number, self._final_block, self._final_block)
