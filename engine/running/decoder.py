"""Continuations of prompts, and labels behind them: prompts are prefilled as tries, then sequences step together.

A sequence leaves the batch when it is done and the next takes its place, from one call to the next. Nothing is run
twice: what is appended to a continuation goes through the same steps as the continuation did, on the K/V that is there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as Several
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import torch

from engine.generation import Sampling
from engine.planning.batching import SortedPrompts
from engine.planning.plan import Plan, build_plan
from engine.planning.prefix import PrefixPolicy
from engine.planning.trie import TokenIds, TokenTrie
from engine.running.kv import Destination, KvStore, StoredPath
from engine.running.memory import is_out_of_memory, make_room
from engine.running.model import Model
from engine.running.reasoning import ReasonedCall
from engine.running.sampling import next_tokens, uniforms
from engine.running.sequence import Sequence
from engine.running.spans import span
from engine.running.stepping import Stepped, open_stepper
from engine.running.stopping import StopRule
from engine.target import Target

# Called after every step with what it added: generated tokens, sequences that are done.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Waiting:
    """A sequence whose prompt has been run; a place in the batch and slots of its own are still to come.

    path: the prompt's slots, which it holds.
    """

    call: ReasonedCall
    prompt: int
    sample: int
    path: np.ndarray
    uniform: np.ndarray
    first_token: int


@dataclass(frozen=True)
class _Active:
    """A sequence in the batch. It holds the slots of its path."""

    call: ReasonedCall
    prompt: int
    sequence: Sequence


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
        self._calls: deque[ReasonedCall] = deque()
        self._prompts: deque[tuple[ReasonedCall, int]] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._active: list[_Active] = []
        self._prefixes = PrefixPolicy()
        self._prefix_slots = np.empty(0, dtype=np.int64)

    def run(self, calls: Iterable[ReasonedCall], progress: Progress | None = None) -> Iterator[ReasonedCall]:
        """Every call, complete, in order. No prompt needs more slots than the store has."""
        source: Iterator[ReasonedCall | None] = iter(calls)
        is_open = True
        while is_open or self._calls:
            # A whole block waits for its turn, so that no place of the batch stays empty.
            while is_open and len(self._prompts) * self._sampling.n < self._block:
                call = next(source, None)
                is_open = call is not None
                if call is not None:
                    self._calls.append(call)
                    self._prompts.extend((call, prompt) for prompt in _in_order(call.prompts))
            if self._calls and not self._calls[0].is_complete:
                started = time.perf_counter()
                self._fill_batch()
                self._step(progress)
                self._calls[0].seconds += time.perf_counter() - started
            while self._calls and self._calls[0].is_complete:
                yield self._calls.popleft()

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
        scripts = waiting.call.scripts
        sequence = Sequence(
            prompt=waiting.call.prompts[waiting.prompt],
            sample=waiting.sample,
            path=np.concatenate([waiting.path, slots]),
            uniform=waiting.uniform,
            script=None if scripts is None else scripts[waiting.prompt],
            stops=self._stops,
        )
        self._active.append(_Active(waiting.call, waiting.prompt, sequence))
        sequence.take(waiting.first_token)
        return True

    def _prefill(self) -> bool:
        """Run the next prompts, as many as fit. False where none does before others leave."""
        call = self._prompts[0][0]
        ready = [prompt for _, prompt in takewhile(lambda entry: entry[0] is call, self._prompts)]
        skipped = self._cached(_sorted([call.prompts[prompt] for prompt in ready]))
        # With the first prompt alone where room for the longest of all endings would leave none for it.
        for candidates in (ready, ready[:1]):
            room = self._store.num_free - max(own_slots(call, prompt, self._sampling) for prompt in candidates)
            order = _sorted([call.prompts[prompt] for prompt in candidates])
            batch = order.cut(max(1, min(self._prefill_budget, room)), skipped)[0]
            if batch.rows <= room:
                self._run_prompts(call, [candidates[place] for place in batch.prompts.tolist()], skipped)
                return True
        if self._active:
            return False
        # What nobody here shares is in the way: there is room for any prompt alone.
        assert len(self._prefix_slots)
        self._forget_prefix()
        return self._prefill()

    def _run_prompts(self, call: ReasonedCall, chosen: list[int], skipped: int) -> None:
        """`chosen` prompts as a trie behind the first `skipped` tokens of the prefix; their sequences wait then."""
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
            make_room(self._model.device)
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
        logits = self._model.next_logits(hidden[self._to_device(np.pad(rows, (0, padding)))])
        drawn = [uniform[0] for _, _, uniform in started]
        uniform = self._to_device(np.array([*drawn, *[0.0] * padding], dtype=np.float32))
        tokens: list[int] = next_tokens(logits, uniform, self._sampling).tolist()
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
            self._store.kv.index_copy_(1, self._to_device(self._prefix_slots), kv)
            self._prefixes.keep(new)
            self._prompts[0][0].prefill_rows += len(new)
        return self._prefixes.usable(order.shared_by_all)

    def _forget_prefix(self) -> None:
        """Sequences that share it keep it as long as they need it."""
        self._store.drop(self._prefix_slots)
        self._prefix_slots = np.empty(0, dtype=np.int64)
        self._prefixes.keep(self._prefix_slots)

    def _step(self, progress: Progress | None) -> None:
        """One row of every sequence in the batch; those that are done leave it."""
        done = [active for active in self._active if active.sequence.is_done]  # by their first token
        running = [active for active in self._active if not active.sequence.is_done]
        generated = len(done)
        if running:
            sequences = [active.sequence for active in running]
            before = sum(len(sequence.ids) for sequence in sequences)
            with span("step", self._model.device):
                stepped = self._stepper.run(sequences)
                self._look_up(sequences, stepped)
            for active, token in zip(running, stepped.tokens.tolist(), strict=True):
                active.sequence.take(token)
                active.call.step_rows += 1
            generated = sum(len(sequence.ids) for sequence in sequences) - before
            self._calls[0].passes += 1
            done += [active for active in running if active.sequence.is_done]
        for active in done:
            self._store.drop(active.sequence.path)
            active.call.finish(active.prompt, active.sequence)
        self._active = [active for active in running if not active.sequence.is_done]
        if progress is not None:
            progress(max(0, generated), len(done))

    def _look_up(self, sequences: Several[Sequence], stepped: Stepped) -> None:
        """Logits of label tokens behind the rows just run, and the normalisers of these rows."""
        asking = [(sequence, place) for sequence, place in zip(sequences, stepped.places, strict=True)]
        asking = [(sequence, place) for sequence, place in asking if len(sequence.looked_up)]
        if not asking:
            return
        # Of all rows, wanted or not: how many rows a reduction has may decide in which order it adds.
        normalisers = stepped.logits.logsumexp(-1).double().cpu().numpy()
        for sequence, place in asking:
            logits = stepped.logits[int(place)][self._to_device(sequence.looked_up)]
            sequence.logits.append(logits.double().cpu().numpy())
            sequence.normalisers.append(float(normalisers[place]))

    def _plan(self, trie: TokenTrie) -> Plan:
        return build_plan(trie, self._target.layout).moved(lambda tensor: tensor.to(self._model.device))

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self._model.device)


def own_slots(call: ReasonedCall, prompt: int, sampling: Sampling) -> int:
    """K/V slots of a sequence beyond its prompt. It holds them from the start, so none ever has to be put off again."""
    return sampling.max_new_tokens + (0 if call.scripts is None else call.scripts[prompt].slots)


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
