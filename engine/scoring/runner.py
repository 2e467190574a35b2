"""Calls in, answers out: batches planned on the host while the device runs the ones before, collected in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic

import numpy as np

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.device import Target
from preftree.engine.errors import InputError
from preftree.engine.memory import DeviceMemoryError, is_out_of_memory, make_room
from preftree.engine.model.model import Model
from preftree.engine.planning.batching import Batch, recut, schedule
from preftree.engine.planning.prefix import PrefixPolicy
from preftree.engine.planning.trie import TokenIds
from preftree.engine.profiling import run_span
from preftree.engine.requests import Prompts, checked_prompts, continuation_tokens, rope_variants_of
from preftree.engine.scoring.batch import LaunchedBatch, PreparedBatch, PreparedPrefix
from preftree.engine.scoring.on_device import device_errors, on_device
from preftree.engine.scoring.readout import AnyReadout, Cost

# Batches that a GPU has in its queue beyond the one that is waited for. It works on them while the next is planned, in
# the same thread: an H200 that was fed by a second thread was idle for a sixth of a 0.6B run, because launching
# a kernel gives up Python's lock and then had to wait for the planner.
LAUNCHED_AHEAD = 2


@dataclass
class Call(Generic[AnyReadout]):
    """What one caller asked.

    readout: what is read, and the answers as they come.
    skipped: leading tokens of every prompt of RoPE variant 0 that `prefix` holds.
    rows, num_batches: that were run.
    waiting: prompts without answers.
    seconds: planning, running and waiting for the device, but for what went on while an earlier call was collected.
    """

    ids: list[TokenIds]
    readout: AnyReadout
    batches: list[Batch]
    skipped: int
    prefix: PreparedPrefix | None
    rows: int
    num_batches: int = 0
    seconds: float = 0.0
    waiting: int = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = len(self.ids)

    @property
    def cost(self) -> Cost:
        return Cost(sum(map(len, self.ids)), self.rows, self.num_batches, self.seconds)

    @contextmanager
    def timed(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started


@dataclass(frozen=True)
class _Step:
    """A batch of a call, planned."""

    call: Call[Any]
    batch: Batch
    work: PreparedBatch


@dataclass(frozen=True)
class _Running:
    """A batch of a call, launched; no batch where the call asks nothing and only waits for its turn."""

    call: Call[Any]
    prompts: np.ndarray
    launched: LaunchedBatch | None


class Runner:
    """Keeps what lasts from call to call: the batch budget, and the prefix that prompts have in common."""

    def __init__(self, config: ModelConfig, model: Model, target: Target) -> None:
        """batch_tokens: rows of a batch; halved for good where memory runs out."""
        self.batch_tokens = target.batch_tokens
        self._config = config
        self._model = model
        self._target = target
        # A CPU has no time of its own to hide planning in.
        # Of several GPUs, each has a batch to work on and the first has those that are ahead.
        ahead = LAUNCHED_AHEAD + len(target.stages) - 1
        self._launched_ahead = ahead if target.device.type == "cuda" else 0
        # Streams of several threads take turns: they share the prefix, and a launch may have to run it first.
        self._turn = threading.Lock()
        self._prefixes = PrefixPolicy()
        self._prefix: PreparedPrefix | None = None

    @property
    def is_ahead(self) -> bool:
        """Whether a call is planned while earlier ones run."""
        return self._launched_ahead > 0

    def run(self, calls: Iterable[tuple[Prompts, AnyReadout]], prefix_cache: bool) -> Iterator[Call[AnyReadout]]:
        """Every call, complete, in order; one without prompts comes out as it is. Raises InputError for a bad call."""
        in_flight: deque[_Running] = deque()
        with run_span(self._target.device):
            for step in self._steps(calls, prefix_cache):
                for running in self._launch(step):
                    in_flight.append(running)
                    while len(in_flight) > self._launched_ahead:
                        yield from self._collect(in_flight.popleft())
            while in_flight:
                yield from self._collect(in_flight.popleft())

    def _steps(
        self, calls: Iterable[tuple[Prompts, AnyReadout]], prefix_cache: bool
    ) -> Iterator[_Step | Call[AnyReadout]]:
        for prompts, readout in calls:
            if not len(prompts):
                yield Call([], readout, [], 0, None, rows=0)
                continue
            started = time.perf_counter()
            call = self._call(prompts, readout, prefix_cache)
            for batch in call.batches:
                work = self._prepared(call, batch)
                if not self._launched_ahead:
                    call.seconds += time.perf_counter() - started
                yield _Step(call, batch, work)
                started = time.perf_counter()

    def _call(self, prompts: Prompts, readout: AnyReadout, prefix_cache: bool) -> Call[AnyReadout]:
        labels = readout.labels
        ids = checked_prompts(prompts, labels, self._config)
        rope_variants = rope_variants_of(ids, labels, self._config)
        with self._turn:
            policy = self._prefixes if prefix_cache else None
            planned = schedule(ids, continuation_tokens(labels), self.batch_tokens, policy, rope_variants)
            if planned.new_prefix is not None:
                self._prefix = PreparedPrefix(planned.new_prefix, self._target)
                self._prefixes.keep(planned.new_prefix)
            prefix_rows = 0 if planned.new_prefix is None else len(planned.new_prefix)
            return Call(ids, readout, planned.batches, planned.skipped, self._prefix, prefix_rows)

    def _prepared(self, call: Call[Any], batch: Batch) -> PreparedBatch:
        prompts = [call.ids[index] for index in batch.prompts]
        skipped = 0 if batch.rope_variant else call.skipped
        reading = call.readout.reading(batch.prompts, prompts, self._target)
        return PreparedBatch.of(reading, call.prefix, skipped, self._target, batch.rope_variant)

    def _launch(self, step: _Step | Call[Any]) -> Iterator[_Running]:
        """Launch a batch; in smaller ones where memory does not suffice, as often as it takes."""
        if isinstance(step, Call):
            yield _Running(step, np.empty(0, dtype=np.int64), None)
            return
        # One that was planned before the budget shrank is not even tried.
        is_too_large = step.batch.rows > self.batch_tokens and len(step.batch.prompts) > 1
        launched = None if is_too_large else self._tried(step)
        if launched is not None:
            step.call.rows += step.batch.rows
            step.call.num_batches += 1
            yield _Running(step.call, step.batch.prompts, launched)
            return
        for batch in self._smaller(step):
            yield from self._launch(_Step(step.call, batch, self._prepared(step.call, batch)))

    def _tried(self, step: _Step) -> LaunchedBatch | None:
        """None where memory ran out. The handler only decides: the exception keeps the forward pass's tensors alive."""
        with step.call.timed(), self._turn, on_device(self._target):
            try:
                return step.work.launch(self._model)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                device = error.device if isinstance(error, DeviceMemoryError) else self._target.device
            make_room(*self._target.devices)
        if len(step.batch.prompts) == 1:
            longest = len(step.call.ids[step.batch.prompts[0]])
            raise InputError(
                f"a prompt of {longest:,} tokens does not fit into the memory of device '{device}'; "
                "leave it out, or use a smaller model or another device"
            )
        self.batch_tokens = max(1, step.batch.rows // 2)
        return None

    def _smaller(self, step: _Step) -> list[Batch]:
        chosen = step.batch.prompts
        forced = continuation_tokens([step.call.readout.labels[index] for index in chosen])
        rope_variant = step.batch.rope_variant
        skipped = 0 if rope_variant else step.call.skipped
        batches = recut([step.call.ids[index] for index in chosen], forced, self.batch_tokens, skipped)
        return [Batch(chosen[batch.prompts], batch.rows, rope_variant) for batch in batches]

    def _collect(self, running: _Running) -> Iterator[Call[Any]]:
        """The call of a batch, if that was the last it waited for."""
        call = running.call
        if running.launched is not None:
            with call.timed(), device_errors(self._target):
                running.launched.collect()
            call.waiting -= len(running.prompts)
        if not call.waiting:
            yield call
