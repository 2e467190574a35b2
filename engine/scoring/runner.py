"""Calls in, scores out: batches planned on the host while the device runs the ones before, collected in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.device import Target
from preftree.engine.errors import InputError
from preftree.engine.memory import is_out_of_memory, make_room
from preftree.engine.model.model import Model
from preftree.engine.planning.batching import Batch, recut, schedule
from preftree.engine.planning.lookups import Labels
from preftree.engine.planning.prefix import PrefixPolicy
from preftree.engine.planning.trie import TokenIds
from preftree.engine.profiling import run_span
from preftree.engine.requests import checked_prompts, continuation_tokens, rope_variants_of
from preftree.engine.results import LabelScores, LabelTokens, label_mass
from preftree.engine.scoring.batch import LaunchedBatch, PreparedBatch, PreparedPrefix

Prompts = Sequence[Sequence[int]]
# Batches that a GPU has in its queue beyond the one that is waited for. It works on them while the next is planned, in
# the same thread: an H200 that was fed by a second thread was idle for a sixth of a 0.6B run, because launching
# a kernel gives up Python's lock and then had to wait for the planner.
LAUNCHED_AHEAD = 2


@dataclass
class Call:
    """What one caller asked, and the answers as they come.

    skipped: leading tokens of every prompt of RoPE variant 0 that `prefix` holds.
    logprob, logit: [prompts, labels] float64, nan where a prompt has fewer labels.
    rows, batches: that were run.
    with_tokens: whether labels are wanted token by token.
    tokens: those of each prompt.
    waiting: prompts without scores.
    seconds: planning, running and waiting for the device, but for what went on while an earlier call was collected.
    """

    ids: list[TokenIds]
    labels: Sequence[Labels]
    batches: list[Batch]
    skipped: int
    prefix: PreparedPrefix | None
    rows: int
    with_tokens: bool = False
    logprob: np.ndarray = field(init=False)
    logit: np.ndarray = field(init=False)
    num_batches: int = 0
    seconds: float = 0.0
    tokens: dict[int, tuple[LabelTokens, ...]] = field(default_factory=dict)
    waiting: int = field(init=False)

    def __post_init__(self) -> None:
        shape = (len(self.ids), max((len(options) for options in self.labels), default=0))
        self.logprob, self.logit = np.full(shape, np.nan), np.full(shape, np.nan)
        self.waiting = len(self.ids)

    def scores(self) -> LabelScores:
        """Those of a call that is complete."""
        return LabelScores(
            logprob=self.logprob.astype(np.float32),
            logit=self.logit.astype(np.float32),
            label_mass=label_mass(self.logprob, self.labels),
            prompt_tokens=sum(len(prompt) for prompt in self.ids),
            rows=self.rows,
            batches=self.num_batches,
            seconds=self.seconds,
            tokens=tuple(self.tokens[place] for place in range(len(self.ids))) if self.with_tokens else None,
        )

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

    call: Call
    batch: Batch
    work: PreparedBatch


@dataclass(frozen=True)
class _Running:
    """A batch of a call, launched; no batch where the call asks nothing and only waits for its turn."""

    call: Call
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
        self._launched_ahead = LAUNCHED_AHEAD if target.device.type == "cuda" else 0
        # Streams of several threads take turns: they share the prefix, and a launch may have to run it first.
        self._turn = threading.Lock()
        self._prefixes = PrefixPolicy()
        self._prefix: PreparedPrefix | None = None

    @property
    def is_ahead(self) -> bool:
        """Whether a call is planned while earlier ones run."""
        return self._launched_ahead > 0

    def run(
        self, calls: Iterable[tuple[Prompts, Sequence[Labels]]], prefix_cache: bool, with_tokens: bool = False
    ) -> Iterator[Call]:
        """Every call, complete, in order; one without prompts comes out as it is. Raises InputError for a bad call."""
        in_flight: deque[_Running] = deque()
        with run_span(self._target.device):
            for step in self._steps(calls, prefix_cache, with_tokens):
                for running in self._launch(step):
                    in_flight.append(running)
                    while len(in_flight) > self._launched_ahead:
                        yield from self._collect(in_flight.popleft())
            while in_flight:
                yield from self._collect(in_flight.popleft())

    def _steps(
        self, calls: Iterable[tuple[Prompts, Sequence[Labels]]], prefix_cache: bool, with_tokens: bool
    ) -> Iterator[_Step | Call]:
        for prompts, labels in calls:
            if not len(prompts):
                yield Call([], [], [], 0, None, rows=0, with_tokens=with_tokens)
                continue
            started = time.perf_counter()
            call = self._call(prompts, labels, prefix_cache, with_tokens)
            for batch in call.batches:
                work = self._prepared(call, batch)
                if not self._launched_ahead:
                    call.seconds += time.perf_counter() - started
                yield _Step(call, batch, work)
                started = time.perf_counter()

    def _call(self, prompts: Prompts, labels: Sequence[Labels], prefix_cache: bool, with_tokens: bool) -> Call:
        ids = checked_prompts(prompts, labels, self._config)
        rope_variants = rope_variants_of(ids, labels, self._config)
        with self._turn:
            policy = self._prefixes if prefix_cache else None
            planned = schedule(ids, continuation_tokens(labels), self.batch_tokens, policy, rope_variants)
            if planned.new_prefix is not None:
                self._prefix = PreparedPrefix(planned.new_prefix, self._target)
                self._prefixes.keep(planned.new_prefix)
            prefix_rows = 0 if planned.new_prefix is None else len(planned.new_prefix)
            return Call(ids, labels, planned.batches, planned.skipped, self._prefix, prefix_rows, with_tokens)

    def _prepared(self, call: Call, batch: Batch) -> PreparedBatch:
        prompts = [call.ids[index] for index in batch.prompts]
        labels = [call.labels[index] for index in batch.prompts]
        skipped = 0 if batch.rope_variant else call.skipped
        return PreparedBatch.of(
            prompts, labels, call.prefix, skipped, self._target, batch.rope_variant, call.with_tokens
        )

    def _launch(self, step: _Step | Call) -> Iterator[_Running]:
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
            make_room(self._target.device)
        if len(step.batch.prompts) == 1:
            longest = len(step.call.ids[step.batch.prompts[0]])
            raise InputError(
                f"a prompt of {longest:,} tokens does not fit into the memory of device '{self._target.device}'; "
                "leave it out, or use a smaller model or another device"
            )
        self.batch_tokens = max(1, step.batch.rows // 2)
        return None

    def _smaller(self, step: _Step) -> list[Batch]:
        chosen = step.batch.prompts
        forced = continuation_tokens([step.call.labels[index] for index in chosen])
        rope_variant = step.batch.rope_variant
        skipped = 0 if rope_variant else step.call.skipped
        batches = recut([step.call.ids[index] for index in chosen], forced, self.batch_tokens, skipped)
        return [Batch(chosen[batch.prompts], batch.rows, rope_variant) for batch in batches]

    def _collect(self, running: _Running) -> Iterator[Call]:
        """The call of a batch, if that was the last it waited for."""
        call, prompts = running.call, running.prompts
        if running.launched is not None:
            with call.timed():
                logprob, logit = running.launched.collect()
                call.tokens.update(zip(prompts.tolist(), running.launched.tokens(), strict=False))
            columns = slice(logprob.shape[1])
            call.logprob[prompts, columns], call.logit[prompts, columns] = logprob, logit
            call.waiting -= len(prompts)
        if not call.waiting:
            yield call


@contextmanager
def on_device(target: Target) -> Iterator[None]:
    """Work for `target`: its device is the current one, and its products are exact."""
    with ExitStack() as stack:
        if target.device.type == "cuda":
            stack.enter_context(torch.cuda.device(target.device))
        stack.enter_context(target.ops.exact_products())
        yield
