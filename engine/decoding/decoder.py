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
import torch

from preftree.engine.decoding.call import RationaleCall
from preftree.engine.decoding.reading import StepReading
from preftree.engine.decoding.sampler import next_tokens, uniforms
from preftree.engine.decoding.sequence import Sequence
from preftree.engine.decoding.stepper import open_stepper
from preftree.engine.decoding.stopping import StopRule
from preftree.engine.device import Target
from preftree.engine.generation import Sampling
from preftree.engine.memory import is_out_of_memory, make_room
from preftree.engine.model.kv import Destination, KvStore, StoredPath
from preftree.engine.model.model import Model
from preftree.engine.model.transfer import to_device
from preftree.engine.planning.batching import SortedPrompts
from preftree.engine.planning.plan import Plan, build_plan
from preftree.engine.planning.prefix import PrefixPolicy
from preftree.engine.planning.trie import TokenIds, TokenTrie
from preftree.engine.profiling import span

# Steps that are launched before the tokens of the one before them are read, by device. A GPU would wait while the host
# reads them and fills the next step; on a CPU a sequence that turns out to have ended would cost a step's row.
STEPS_AHEAD = {"cuda": 1}
# Called after every step with what it added: generated tokens, sequences that are done.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Waiting:
    """A sequence whose prompt has been run; a place in the batch and slots of its own are still to come.

    path: the prompt's slots, which it holds.
    """

    call: RationaleCall
    prompt: int
    sample: int
    path: np.ndarray
    uniform: np.ndarray
    first_token: int


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
        self._target = target
        self._store = store
        self._sampling = sampling
        self._stops = stops
        self._prefill_budget = prefill_rows
        self._block = target.layout.step_block
        self._stepper = open_stepper(model, store, sampling, min(model.config.max_context, store.num_slots))
        self._calls: deque[RationaleCall] = deque()
        self._prompts: deque[tuple[RationaleCall, int]] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._active: list[_Active] = []
        self._in_flight: deque[_Step] = deque()
        self._steps_ahead = STEPS_AHEAD.get(model.device.type, 0)
        self._generated = self._done = 0  # tokens and sequences since `progress` was last called
        self._prefixes = PrefixPolicy()
        self._prefix_slots = np.empty(0, dtype=np.int64)

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
                    self._prompts.extend((call, prompt) for prompt in _in_order(call.prompts))
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
            elif not self._prompts or not self._prefill():
                return

    def _activate(self) -> bool:
        """The sequence that waits longest into the batch. False where its slots are not free yet."""
        waiting = self._waiting[0]
        own = own_slots(waiting.call, waiting.prompt, self._sampling)
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

    def _prefill(self) -> bool:
        """Run the next prompts, as many as fit. False where none does before others leave."""
        call = self._prompts[0][0]
        ready = [prompt for _, prompt in takewhile(lambda entry: entry[0] is call, self._prompts)]
        order = _sorted([call.prompts[prompt] for prompt in ready])
        skipped = self._cached(order)
        # With the first prompt alone where room for the longest of all endings would leave none for it.
        for candidates, among in ((ready, order), (ready[:1], _sorted([call.prompts[ready[0]]]))):
            room = self._store.num_free - max(own_slots(call, prompt, self._sampling) for prompt in candidates)
            batch = among.cut(max(1, min(self._prefill_budget, room)), skipped)[0]
            if batch.rows <= room:
                self._run_prompts(call, [candidates[place] for place in batch.prompts.tolist()], skipped)
                return True
        if self._active:
            return False
        # What nobody here shares is in the way: there is room for any prompt alone.
        assert len(self._prefix_slots)
        self._forget_prefix()
        return self._prefill()

    def _run_prompts(self, call: RationaleCall, chosen: list[int], skipped: int) -> None:
        """`chosen` prompts as a trie after the first `skipped` tokens of the prefix; their sequences wait then."""
        trie = TokenTrie.build([call.prompts[prompt] for prompt in chosen], skipped)
        slots = self._store.take(trie.num_rows)
        prefix = self._prefix_slots[:skipped]
        try:
            hidden = self._hidden(trie, prefix, slots)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(chosen) == 1:
                raise
            hidden = None  # the handler only decides: the exception keeps the forward pass's tensors alive
        if hidden is None:
            self._store.give_back(slots)
            make_room(*self._target.devices)
            self._prefill_budget = max(1, trie.num_rows // 2)
            return
        call.prefill_rows += trie.num_rows
        call.passes += 1
        paths = _paths(trie, np.concatenate([prefix, slots]))
        started = [
            (prompt, sample, uniforms(self._sampling, call.prompts[prompt], sample))
            for prompt in chosen
            for sample in range(self._sampling.n)
        ]
        firsts = self._first_tokens(hidden, np.repeat(_final_places(trie), self._sampling.n), started)
        for place, ((prompt, sample, uniform), token) in enumerate(zip(started, firsts, strict=True)):
            path = paths[place // self._sampling.n]
            self._store.hold(path)
            self._waiting.append(_Waiting(call, prompt, sample, path, uniform, token))
        for _ in chosen:
            self._prompts.popleft()

    def _hidden(self, trie: TokenTrie, prefix: np.ndarray, slots: np.ndarray) -> torch.Tensor:
        """Run `trie`; its K/V goes to `slots`."""
        cache = StoredPath(self._store, self._to_device(prefix)) if len(prefix) else None
        destination = Destination(self._store, self._to_device(slots))
        with span("prefill", self._model.device):
            return self._model.final_hidden(self._plan(trie), cache, destination)

    def _first_tokens(
        self, hidden: torch.Tensor, rows: np.ndarray, started: Several[tuple[int, int, np.ndarray]]
    ) -> list[int]:
        """The first token of every sequence, from row `rows` [sequences] of `hidden`."""
        padding = -len(rows) % self._block
        places = self._to_device(np.pad(rows, (0, padding)))
        drawn = np.array([uniform[0] for _, _, uniform in started], dtype=np.float32)
        uniform = self._to_device(np.pad(drawn, (0, padding)))
        # Always one whole block: how a GPU cuts cumulative sums depends on the number of rows.
        found = [
            next_tokens(self._model.next_logits(hidden[block]), draws, self._sampling)
            for block, draws in zip(places.split(self._block), uniform.split(self._block), strict=True)
        ]
        tokens: list[int] = torch.cat(found).tolist()
        return tokens[: len(rows)]

    def _cached(self, order: SortedPrompts) -> int:
        """Leading tokens of every prompt that the store holds; more of them from now on where they came back."""
        several = len(order.cut(self._prefill_budget, 0)) > 1
        new = self._prefixes.choose(order.shared_by_all, several)
        if new is not None and len(new) <= self._store.num_free // 2:
            self._forget_prefix()
            self._prefix_slots = self._store.take(len(new))
            self._store.hold(self._prefix_slots)
            with span("prefix", self._model.device):
                kv = self._model.prefix_kv(self._plan(TokenTrie.build([new])))
            slots = self._to_device(self._prefix_slots)
            for stored, own in zip(self._store.kv, kv, strict=True):
                stored.index_copy_(0, slots.to(own.device), own)
            self._prefixes.keep(new)
            self._prompts[0][0].prefill_rows += len(new)
        return self._prefixes.usable(order.shared_by_all)

    def _forget_prefix(self) -> None:
        """Sequences that share it keep it as long as they need it."""
        self._store.drop(self._prefix_slots)
        self._prefix_slots = np.empty(0, dtype=np.int64)
        self._prefixes.keep(self._prefix_slots)

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

    def _plan(self, trie: TokenTrie) -> Plan:
        return build_plan(trie, self._target.layout).moved(lambda tensor: to_device(tensor, self._model.device))

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        return to_device(torch.from_numpy(array), self._model.device)


def own_slots(call: RationaleCall, prompt: int, sampling: Sampling) -> int:
    """K/V slots of a sequence beyond its prompt. It holds them from the start, so none ever has to be put off again."""
    return sampling.max_new_tokens + (0 if call.tails is None else call.tails[prompt].slots)


def _in_order(prompts: Several[TokenIds]) -> list[int]:
    """Numbers of the prompts in the order in which neighbours share most."""
    order: list[int] = _sorted(prompts).order.tolist() if prompts else []
    return order


def _sorted(prompts: Several[TokenIds]) -> SortedPrompts:
    return SortedPrompts.of(prompts, [0] * len(prompts))


def _final_places(trie: TokenTrie) -> np.ndarray:
    """Of every sequence, its place among the plan's final rows: the distinct ones in ascending order."""
    return np.searchsorted(np.unique(trie.final_row), trie.final_row)


def _paths(trie: TokenTrie, stored: np.ndarray) -> list[np.ndarray]:
    """Of every sequence, the slot of each depth. stored: [skipped + rows] int64, the slot of each of the trie's own."""
    branch = np.searchsorted(trie.start, trie.final_row, side="right") - 1
    ends = trie.depth[trie.final_row] + 1
    paths = [stored[:0]] * len(branch)
    for index, slots in enumerate(trie.slots()):
        for sequence in np.flatnonzero(branch == index):
            paths[sequence] = stored[slots[: ends[sequence]]]
    return paths
