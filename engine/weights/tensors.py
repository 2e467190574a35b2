"""Stored tensors of a layer, and which matrix of the forward pass each is a part of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from preftree.engine.weights.stacked import StackedExperts


@dataclass(frozen=True)
class Part:
    """`rows` rows of a stored matrix that has `of` of them, from `first` on. name: without ".weight"."""

    name: str
    rows: int
    first: int = 0
    of: int = 0

    @property
    def stored_rows(self) -> int:
        return self.of or self.rows


@dataclass(frozen=True)
class Matrix:
    """Parts of stored matrices, one below the other. has_bias: every one of them has a vector beside it."""

    parts: tuple[Part, ...]
    columns: int
    has_bias: bool = False

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for part in self.parts:
            yield f"{part.name}.weight", (part.stored_rows, self.columns)
            if self.has_bias:
                yield f"{part.name}.bias", (part.stored_rows,)


@dataclass(frozen=True)
class MlpTensors:
    """gate_up: gate first, [2 * width, hidden]. down: [hidden, width]."""

    gate_up: Matrix
    down: Matrix


@dataclass(frozen=True)
class ExpertsTensors:
    """A mixture of experts.

    router: a row for each of them and, last, the gate of the shared one where it has one. correction: name and shape
    of what is added to a sigmoid router's scores. experts, stacked: one of them.
    """

    router: Matrix
    experts: tuple[MlpTensors, ...] = ()
    stacked: StackedExperts | None = None
    shared: MlpTensors | None = None
    correction: tuple[str, tuple[int, ...]] | None = None

    def mlps(self) -> Iterator[MlpTensors]:
        yield from self.experts
        if self.shared is not None:
            yield self.shared


@dataclass(frozen=True)
class PerLayerTensors:
    """What brings a token's embedding for one layer into it.

    projection: of the token's common embedding, [size, hidden]. gate: of the residual stream, [size, hidden]. out:
    [hidden, size]. norm: after it, without ".weight".
    """

    projection: Matrix
    gate: Matrix
    out: Matrix
    norm: str


@dataclass(frozen=True)
class LayerTensors:
    """One layer. norms: name and size by the role that `Architecture.norms` gives them, and "q" and "k".

    scalar: name of the number that the layer's result is multiplied with. q, kv, o: attention's matrices, kv with keys
    first, None where the layer uses those of another. q_latent, kv_latent: what gives q and kv their input where that
    is not the hidden state. mlp: the MLP, or None where there is a mixture of experts. sinks:
    name and size of attention's sinks, where the family has some.
    """

    norms: dict[str, tuple[str, int]]
    q: Matrix
    kv: Matrix | None
    o: Matrix
    mlp: MlpTensors | None
    experts: ExpertsTensors | None
    sinks: tuple[str, int] | None = None
    scalar: str | None = None
    per_layer: PerLayerTensors | None = None
    q_latent: Matrix | None = None
    kv_latent: Matrix | None = None

    def matrices(self) -> Iterator[Matrix]:
        """Those of linear layers, but for stacked ones; what decides about experts is none of them."""
        yield from filter(None, (self.q_latent, self.kv_latent, self.q, self.kv, self.o))
        mlps = self.experts.mlps() if self.experts is not None else filter(None, [self.mlp])
        for mlp in mlps:
            yield from (mlp.gate_up, mlp.down)
        if self.per_layer is not None:
            yield from (self.per_layer.projection, self.per_layer.gate, self.per_layer.out)

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for name, size in self.norms.values():
            yield f"{name}.weight", (size,)
        if self.scalar is not None:
            yield self.scalar, (1,)
        if self.per_layer is not None:
            yield f"{self.per_layer.norm}.weight", (self.per_layer.out.parts[0].rows,)
        for matrix in self.matrices():
            yield from matrix.tensors()
        if self.experts is not None:
            yield from self.experts.router.tensors()
            if self.experts.correction is not None:
                yield self.experts.correction
            if self.experts.stacked is not None:
                yield from self.experts.stacked.tensors()
        if self.sinks is not None:
            name, size = self.sinks
            yield name, (size,)

    @property
    def num_linear_parameters(self) -> int:
        """Numbers of its linear layers' matrices."""
        return self._numbers(self.matrices()) + self._num_stacked

    @property
    def num_fp8_parameters(self) -> int:
        """Those that are in 8 bits where the model is in fp8: all but attention's output."""
        return self.num_linear_parameters - self._numbers([self.o])

    @staticmethod
    def _numbers(matrices: Iterable[Matrix]) -> int:
        """Without biases."""
        return sum(math.prod(shape) for matrix in matrices for _, shape in matrix.tensors() if len(shape) == 2)

    @property
    def _num_stacked(self) -> int:
        stacked = None if self.experts is None else self.experts.stacked
        return 0 if stacked is None else stacked.num_linear_parameters
