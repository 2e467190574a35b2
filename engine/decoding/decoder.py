"""Continuations of prompts, and labels after them: prompts are prefilled as tries, then sequences step together.

A sequence leaves the batch when it is done and the next takes its place, from one call to the next. Nothing is run
twice: what is appended to a continuation goes through the same steps as the continuation did, on the K/V that is there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Several
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

import numpy as np

from preftree.engine.decoding.call import RationaleCall
from preftree.engine.decoding.prefill import Prefill, Waiting, in_order
from preftree.engine.decoding.reading import StepReading
from preftree.engine.decoding.sequence import Sequence
from preftree.engine.decoding.stepper import open_stepper
from preftree.engine.decoding.stopping import StopRule
from preftree.engine.device import Target
from preftree.engine.generation import Sampling
from preftree.engine.model.kv import KvStore
from preftree.engine.model.model import Model
from preftree.engine.profiling import span

# Steps that are launched before the tokens of the one before them are read, by device. A GPU would wait while the host
# reads them and fills the next step; on a CPU a sequence that turns out to have ended would cost a step's row.
STEPS_AHEAD = {"cuda": 1}
# Called after every step with what it added: generated tokens, sequences that are done.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Active:
    """A sequence in the batch. It holds the slots of its path."""

    call: RationaleCall
    prompt: int
    sequence: Sequence


@dataclass(frozen=True)
class _Step:
    """A step that has been launched. active: the sequences in it, in the order of `reading`."""

    active: list[_Active]
    reading: StepReading


class Decoder:
    """One run of decoding: a store of K/V, and the sequences in it."""

    def __init__(
        self, model: Model, target: Target, store: KvStore, sampling: Sampling, stops: StopRule, prefill_rows: int
    ) -> None:
        """prefill_rows: rows of a forward pass over prompts, at most."""
        self._model = model
        self._store = store
        self._sampling = sampling
        self._stops = stops
        self._block = target.layout.step_block
        self._stepper = open_stepper(model, store, sampling, min(model.config.max_context, store.num_slots))
        self._calls: deque[RationaleCall] = deque()
        self._prompts: deque[tuple[RationaleCall, int]] = deque()
        self._waiting: deque[Waiting] = deque()
        self._active: list[_Active] = []
        self._in_flight: deque[_Step] = deque()
        self._steps_ahead = STEPS_AHEAD.get(model.device.type, 0)
        self._generated = self._done = 0  # tokens and sequences since `progress` was last called
        self._prefill = Prefill(model, target, store, sampling, prefill_rows)

    def run(self, calls: Iterable[RationaleCall], progress: Progress | None = None) -> Iterator[RationaleCall]:
        """Every call, complete, in order. No prompt needs more slots than the store has."""
        source: Iterator[RationaleCall | None] = iter(calls)
        is_open = True
        while is_open or self._calls:
            if self._calls and self._calls[0].is_complete:
                yield self._calls.popleft()
            # A whole block waits for its turn, so that no place of the batch stays empty.
            elif is_open and len(self._prompts) * self._sampling.n < self._block:
                call = next(source, None)
                is_open = call is not None
                if call is not None:
                    self._calls.append(call)
                    self._prompts.extend((call, prompt) for prompt in in_order(call.prompts))
            elif self._calls:
                started = time.perf_counter()
                self._fill_batch()
                self._step(progress)
                self._calls[0].seconds += time.perf_counter() - started

    def _fill_batch(self) -> None:
        """Sequences into free places, as long as there are slots for them."""
        while len(self._active) < self._block:
            if self._waiting:
                if not self._activate():
                    return
            elif not self._prompts or not self._prefill_next():
                return

    def _activate(self) -> bool:
        """The sequence that waits longest into the batch. False where its slots are not free yet."""
        waiting = self._waiting[0]
        own = waiting.call.own_slots(waiting.prompt, self._sampling)
        if own > self._store.num_free:
            return False
        self._waiting.popleft()
        slots = self._store.take(own)
        self._store.hold(slots)
        tails, given = waiting.call.tails, waiting.call.given
        sequence = Sequence(
            prompt=waiting.call.prompts[waiting.prompt],
            sample=waiting.sample,
            path=np.concatenate([waiting.path, slots]),
            uniform=waiting.uniform,
            tail=None if tails is None else tails[waiting.prompt],
            stops=self._stops,
        )
        self._active.append(_Active(waiting.call, waiting.prompt, sequence))
        with self._counted(self._active[-1:]):
            if given is None:
                sequence.take(waiting.first_token)
            else:
                sequence.give(given[waiting.prompt][waiting.sample])
        self._leave()
        return True

    def _prefill_next(self) -> bool:
        """Run the next prompts, as many as fit. False where none does before others leave."""
        call = self._prompts[0][0]
        prompts = [prompt for _, prompt in takewhile(lambda entry: entry[0] is call, self._prompts)]
        started = self._prefill.run(call, prompts, is_alone=not self._active)
        self._waiting.extend(started)
        for _ in range(len(started) // self._sampling.n):
            self._prompts.popleft()
        return bool(started)

    def _step(self, progress: Progress | None) -> None:
        """Launch a row of every sequence in the batch, and read the steps that are due."""
        is_running = bool(self._active)
        if is_running:
            self._in_flight.append(self._launched())
            self._calls[0].passes += 1
        while len(self._in_flight) > self._steps_ahead * is_running:
            step = self._in_flight.popleft()
            with self._counted(step.active):
                step.reading.give([active.sequence for active in step.active])
        self._leave()
        if progress is not None:
            progress(max(0, self._generated), self._done)
        self._generated = self._done = 0

    def _launched(self) -> _Step:
        """A step of all sequences in the batch."""
        sequences = [active.sequence for active in self._active]
        with span("step", self._model.device):
            looked_up = [sequence.looked_up for sequence in sequences]
            reading = StepReading.start(self._stepper.run(sequences), looked_up)
        for sequence in sequences:
            sequence.launched()
        return _Step(list(self._active), reading)

    def _leave(self) -> None:
        """Sequences without another row give back their slots, to which only rows launched later will write."""
        for active in self._active:
            if not active.sequence.has_row:
                self._store.drop(active.sequence.path)
        self._active = [active for active in self._active if active.sequence.has_row]

    @contextmanager
    def _counted(self, active: Several[_Active]) -> Iterator[None]:
        """Sequences that are given what has been read of them: those that are done by it finish."""
        reading = [one for one in active if not one.sequence.is_done]
        before = sum(len(one.sequence.ids) for one in reading)
        yield
        self._generated += sum(len(one.sequence.ids) for one in reading) - before
        for one in reading:
            if one.sequence.is_done:
                one.call.finish(one.prompt, one.sequence)
                self._done += 1
