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
from preftree.engine.model.transfer import to_device
from preftree.engine.planning.steps import ON_DEVICE, Step, StepRow
from preftree.kernels.tiles import PathTiles


@dataclass(frozen=True)
class Stepped:
    """What a step gives, on the device.

    Attributes:
        tokens: [rows] int64, the next after each row. On a GPU the next step overwrites them, and the logits.
        logits: [rows, vocab] float32.
        places: [sequences] int64, the row of each sequence.
    """

    tokens: torch.Tensor
    logits: torch.Tensor
    places: np.ndarray


class Stepper(Protocol):
    """Runs one row for each of some sequences."""

    def run(self, sequences: Several[Sequence]) -> Stepped:
        """Launch the next row of each: at most as many as a step block has rows.

        A sequence is in every step from its first to its last.
        """
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
        self._tokens = np.empty(0, dtype=np.int64)

    def run(self, sequences: Several[Sequence]) -> Stepped:
        step = Step.build([sequence.row for sequence in sequences], self._model.layout.step_block, self._store.scratch)
        self._feed(step, sequences)
        logits = self._model.step(step.tokens, step.depths, step.slots, step.groups, self._store)
        uniform = np.zeros(len(step.tokens), dtype=np.float32)
        uniform[step.places] = [sequence.draws for sequence in sequences]
        tokens = next_tokens(logits, torch.from_numpy(uniform), self._sampling)
        self._tokens = tokens.numpy()
        return Stepped(tokens, logits, step.places)

    def _feed(self, step: Step, sequences: Several[Sequence]) -> None:
        """What the step before drew to the rows that run it."""
        tokens = step.tokens.numpy()
        for sequence, place in zip(sequences, step.places.tolist(), strict=True):
            if tokens[place] == ON_DEVICE:
                tokens[place] = self._tokens[sequence.place]
            sequence.place = place


class PathStepper:
    """For compiled kernels: a whole step block each time, with other numbers in the same tensors.

    On a GPU it is a captured graph.

    A sequence keeps its row as long as it is in the batch: its path is sent once, and what it drew is in the row that
    runs it next. Rows without a sequence run along: they write the scratch slot and attend to nothing.
    """

    def __init__(self, model: Model, store: KvStore, sampling: Sampling, longest: int) -> None:
        self._model = model
        self._store = store
        self._sampling = sampling
        rows, device = model.layout.step_block, model.device
        # Tokens, depths, slots, and 1 for rows with a sequence, 0 for others.
        self._inputs = torch.zeros(4, rows, dtype=torch.int64, device=device)
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
        self._logits = torch.empty(0)
        self._tokens = torch.zeros(rows, dtype=torch.int64, device=device)

    @torch.inference_mode()
    def run(self, sequences: Several[Sequence]) -> Stepped:
        places = self._placed(sequences)
        self._fill(sequences, places)
        self._logits, self._tokens = self._replayed()
        return Stepped(self._tokens, self._logits, places)

    def _placed(self, sequences: Several[Sequence]) -> np.ndarray:
        """The row of each sequence; one that is new gets a free row, and its path is sent there."""
        taken = {sequence.place for sequence in sequences}
        free = (row for row in range(len(self._paths)) if row not in taken)
        for sequence in sequences:
            if sequence.place is None:
                sequence.place = next(free)
                path = torch.from_numpy(sequence.path.astype(np.int32))
                self._paths[sequence.place, : len(path)] = to_device(path, self._model.device)
        return np.array([sequence.place for sequence in sequences])

    def _fill(self, sequences: Several[Sequence], places: np.ndarray) -> None:
        """The step's inputs; tokens that the host does not have are those of the step before, in the same rows."""
        rows: list[StepRow] = [sequence.row for sequence in sequences]
        host = np.zeros(self._inputs.shape, dtype=np.int64)
        host[2] = self._store.scratch
        host[0, places] = [row.token for row in rows]
        host[1, places] = [row.depth for row in rows]
        host[2, places] = [row.path[row.depth] for row in rows]
        host[3, places] = 1
        self._inputs.copy_(to_device(torch.from_numpy(host), self._model.device))
        tokens = self._inputs[0]
        torch.where(tokens == ON_DEVICE, self._tokens, tokens, out=tokens)
        if not self._sampling.is_greedy:
            uniform = np.zeros(len(self._uniform), dtype=np.float32)
            uniform[places] = [sequence.draws for sequence in sequences]
            self._uniform.copy_(to_device(torch.from_numpy(uniform), self._model.device))

    def _replayed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits and tokens of a step."""
        # Streamed layers come on another stream, and those of several devices are on theirs.
        model = self._model
        if model.device.type != "cuda" or model.streams_layers or model.num_stages > 1:
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

    def _step(self) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, depths, slots, is_taken = self._inputs
        self._tiles.first_depth.copy_(depths)
        self._tiles.num_rows.copy_(is_taken)
        logits = self._model.step(tokens, depths, slots, self._tiles, self._store)
        return logits, next_tokens(logits, self._uniform, self._sampling)
