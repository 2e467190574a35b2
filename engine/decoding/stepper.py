"""Runs decode steps: planned one by one in plain torch, on the same tensors for compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from preftree.engine.decoding.sampler import next_tokens
from preftree.engine.decoding.sequence import Sequence
from preftree.engine.generation import Sampling
from preftree.engine.model.kv import KvStore
from preftree.engine.model.model import Model
from preftree.engine.planning.steps import Step, StepRow
from preftree.kernels.tiles import PathTiles


@dataclass(frozen=True)
class Stepped:
    """What a step gives. tokens: [sequences] int64, the next of each. logits: [rows, vocab] float32; places:
    [sequences] int64, the row of each sequence there."""

    tokens: np.ndarray
    logits: torch.Tensor
    places: np.ndarray


class Stepper(Protocol):
    """Runs one row for each of some sequences."""

    def run(self, sequences: Several[Sequence]) -> Stepped:
        """At most as many sequences as a step block has rows."""
        ...


def open_stepper(model: Model, store: KvStore, sampling: Sampling, longest: int) -> Stepper:
    """longest: depths that a path may have."""
    if model.layout.tiles == "runs":
        return PlannedStepper(model, store, sampling)
    return PathStepper(model, store, sampling, longest)


class PlannedStepper:
    """For operations in plain torch: plans every step anew."""

    def __init__(self, model: Model, store: KvStore, sampling: Sampling) -> None:
        self._model = model
        self._store = store
        self._sampling = sampling

    def run(self, sequences: Several[Sequence]) -> Stepped:
        step = Step.build([sequence.row for sequence in sequences], self._model.layout.step_block, self._store.scratch)
        logits = self._model.step(step.tokens, step.depths, step.slots, step.groups, self._store)
        uniform = np.zeros(len(step.tokens), dtype=np.float32)
        uniform[step.places] = [sequence.draws for sequence in sequences]
        tokens = next_tokens(logits, torch.from_numpy(uniform), self._sampling)
        return Stepped(tokens.numpy()[step.places], logits, step.places)


class PathStepper:
    """For compiled kernels: a whole step block each time, with other numbers in the same tensors.

    On a GPU it is a captured graph.

    A sequence keeps its row as long as it is in the batch, so that its path is sent once. Rows without a sequence run
    along: they write the scratch slot and attend to nothing.
    """

    def __init__(self, model: Model, store: KvStore, sampling: Sampling, longest: int) -> None:
        self._model = model
        self._store = store
        self._sampling = sampling
        rows, device = model.layout.step_block, model.device
        self._sequences: list[Sequence | None] = [None] * rows
        self._host = _pinned_inputs(rows, device)
        self._inputs = self._host.to(device)
        self._paths = torch.full((rows, longest), store.scratch, dtype=torch.int32, device=device)
        self._uniform = torch.zeros(rows, dtype=torch.float32, device=device)
        every = torch.arange(rows, dtype=torch.int32, device=device)
        self._tiles = PathTiles(
            first_row=every,
            num_rows=torch.ones_like(every),
            first_depth=torch.zeros_like(every),
            path=every * longest,
            slots=self._paths.view(-1),
            max_rows=1,
        )
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits = self._tokens = torch.empty(0)

    def run(self, sequences: Several[Sequence]) -> Stepped:
        places = self._placed(sequences)
        self._fill(sequences, places)
        logits, tokens = self._replayed()
        return Stepped(tokens.cpu().numpy()[places], logits, places)

    def _placed(self, sequences: Several[Sequence]) -> np.ndarray:
        """The row of each sequence; one that is new gets a free row, and its path is sent there."""
        staying = {id(sequence) for sequence in sequences}
        rows = {}
        for row, sequence in enumerate(self._sequences):
            if sequence is not None and id(sequence) in staying:
                rows[id(sequence)] = row
            else:
                self._sequences[row] = None
        free = iter([row for row, sequence in enumerate(self._sequences) if sequence is None])
        for sequence in sequences:
            if id(sequence) not in rows:
                row = rows[id(sequence)] = next(free)
                self._sequences[row] = sequence
                path = torch.from_numpy(sequence.path.astype(np.int32))
                self._paths[row, : len(path)] = path.to(self._paths.device)
        return np.array([rows[id(sequence)] for sequence in sequences])

    def _fill(self, sequences: Several[Sequence], places: np.ndarray) -> None:
        host = self._host.numpy()
        host[:] = [[0], [0], [self._store.scratch], [0]]
        uniform = np.zeros(len(self._uniform), dtype=np.float32)
        for place, sequence in zip(places, sequences, strict=True):
            row: StepRow = sequence.row
            host[:, place] = row.token, row.depth, row.path[row.depth], 1
            uniform[place] = sequence.draws
        self._inputs.copy_(self._host, non_blocking=True)
        self._uniform.copy_(torch.from_numpy(uniform))

    def _replayed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and tokens of a step."""
        # Experts choose their rows on the host, which no graph can hold; streamed layers come on another stream, and
        # those of several devices are on theirs.
        model = self._model
        is_plain = model.config.experts is None and not model.streams_layers and model.num_stages == 1
        if model.device.type != "cuda" or not is_plain:
            return self._step()
        if self._graph is None:
            self._capture()
        assert self._graph is not None
        self._graph.replay()
        return self._logits, self._tokens

    def _capture(self) -> None:
        # Compiles the kernels, and lets libraries allocate what they keep, before anything is recorded. Run twice, a
        # step writes the same K/V to the same slots.
        stream = torch.cuda.Stream(self._model.device)
        stream.wait_stream(torch.cuda.current_stream(self._model.device))
        with torch.cuda.stream(stream):
            self._step()
        torch.cuda.current_stream(self._model.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits, self._tokens = self._step()

    @torch.inference_mode()
    def _step(self) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, depths, slots, is_taken = self._inputs
        self._tiles.first_depth.copy_(depths)
        self._tiles.num_rows.copy_(is_taken)
        logits = self._model.step(tokens, depths, slots, self._tiles, self._store)
        return logits, next_tokens(logits, self._uniform, self._sampling)


def _pinned_inputs(rows: int, device: torch.device) -> torch.Tensor:
    """Tokens, depths, slots, and 1 for rows with a sequence, 0 for others: [4, rows] int64."""
    return torch.zeros(4, rows, dtype=torch.int64, pin_memory=device.type == "cuda")
