"""Prompts of a call as tries, before their sequences step: K/V into the store, and the first token of each sequence."""

from __future__ import annotations

from collections.abc import Sequence as Several
from dataclasses import dataclass

import numpy as np
import torch

from preftree.engine.decoding.call import RationaleCall
from preftree.engine.decoding.sampler import next_tokens, uniforms
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


@dataclass(frozen=True)
class Waiting:
    """A sequence whose prompt has been run; a place in the batch and slots of its own are still to come.

    Attributes:
        call: whose it is.
        prompt: its number among the prompts of the call.
        sample: its number among the samples of the prompt.
        path: [prompt tokens] int64, the K/V slot of each, which the sequence holds.
        uniform: [max_new_tokens] float32, what it draws from.
        first_token: drawn after the prompt.
    """

    call: RationaleCall
    prompt: int
    sample: int
    path: np.ndarray
    uniform: np.ndarray
    first_token: int


class Prefill:
    """Runs prompts, and keeps the K/V of a prefix that comes back. `rows`, of a forward pass, shrink with memory."""

    def __init__(self, model: Model, target: Target, store: KvStore, sampling: Sampling, rows: int) -> None:
        """rows: of a forward pass, at most."""
        self._model = model
        self._target = target
        self._store = store
        self._sampling = sampling
        self._rows = rows
        self._block = target.layout.step_block
        self._prefixes = PrefixPolicy()
        self._prefix_slots = np.empty(0, dtype=np.int64)

    def run(self, call: RationaleCall, prompts: Several[int], is_alone: bool) -> list[Waiting]:
        """Sequences of the first of these prompts, as many as there is room for.

        Args:
            call: whose prompts they are.
            prompts: numbers of prompts of the call, in the order of `in_order`.
            is_alone: whether no sequence holds slots that it will give back.

        Returns:
            All samples of a prompt after those of the one before. Empty where no prompt fits before a sequence leaves.
        """
        while True:
            chosen = self._chosen(call, prompts)
            if chosen is not None:
                waiting = self._run(call, *chosen)
                if waiting is not None:
                    return waiting
            elif is_alone:
                # What nobody here shares is in the way: there is room for any prompt alone.
                assert len(self._prefix_slots)
                self._forget_prefix()
            else:
                return []

    def _chosen(self, call: RationaleCall, prompts: Several[int]) -> tuple[list[int], int] | None:
        """Prompts to run now, and how many tokens of the prefix they skip; None where not even the first has room."""
        order = _sorted([call.prompts[prompt] for prompt in prompts])
        skipped = self._cached(call, order)
        # With the first prompt alone where room for the longest of all endings would leave none for it.
        for candidates, among in ((prompts, order), (prompts[:1], _sorted([call.prompts[prompts[0]]]))):
            longest = max(call.own_slots(prompt, self._sampling) for prompt in candidates)
            room = self._store.num_free - longest
            batch = among.cut(max(1, min(self._rows, room)), skipped)[0]
            if batch.rows <= room:
                return [candidates[place] for place in batch.prompts.tolist()], skipped
        return None

    def _run(self, call: RationaleCall, chosen: list[int], skipped: int) -> list[Waiting] | None:
        """`chosen` prompts as a trie after the first `skipped` tokens of the prefix.

        None where memory ran out: fewer rows are taken from then on.
        """
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
            self._rows = max(1, trie.num_rows // 2)
            return None
        call.prefill_rows += trie.num_rows
        call.passes += 1
        started = [
            (prompt, sample, uniforms(self._sampling, call.prompts[prompt], sample))
            for prompt in chosen
            for sample in range(self._sampling.n)
        ]
        drawn = np.array([uniform[0] for _, _, uniform in started], dtype=np.float32)
        firsts = self._first_tokens(hidden, np.repeat(_final_places(trie), self._sampling.n), drawn)
        paths = [path for path in _paths(trie, np.concatenate([prefix, slots])) for _ in range(self._sampling.n)]
        for path in paths:
            self._store.hold(path)
        return [
            Waiting(call, *one[:2], path, one[2], token)
            for one, path, token in zip(started, paths, firsts, strict=True)
        ]

    def _hidden(self, trie: TokenTrie, prefix: np.ndarray, slots: np.ndarray) -> torch.Tensor:
        """Run `trie`; its K/V goes to `slots`."""
        cache = StoredPath(self._store, self._to_device(prefix)) if len(prefix) else None
        destination = Destination(self._store, self._to_device(slots))
        with span("prefill", self._model.device):
            return self._model.final_hidden(self._plan(trie), cache, destination)

    def _first_tokens(self, hidden: torch.Tensor, rows: np.ndarray, drawn: np.ndarray) -> list[int]:
        """The first token of every sequence, from row `rows` [sequences] of `hidden` and its number `drawn`."""
        padding = -len(rows) % self._block
        places, uniform = (self._to_device(np.pad(array, (0, padding))) for array in (rows, drawn))
        # Always one whole block: how a GPU cuts cumulative sums depends on the number of rows.
        found = [
            next_tokens(self._model.next_logits(hidden[block]), draws, self._sampling)
            for block, draws in zip(places.split(self._block), uniform.split(self._block), strict=True)
        ]
        tokens: list[int] = torch.cat(found).tolist()
        return tokens[: len(rows)]

    def _cached(self, call: RationaleCall, order: SortedPrompts) -> int:
        """Leading tokens of every prompt that the store holds; more of them from now on where they came back."""
        several = len(order.cut(self._rows, 0)) > 1
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
            call.prefill_rows += len(new)
        return self._prefixes.usable(order.shared_by_all)

    def _forget_prefix(self) -> None:
        """Sequences that share it keep it as long as they need it."""
        self._store.drop(self._prefix_slots)
        self._prefix_slots = np.empty(0, dtype=np.int64)
        self._prefixes.keep(self._prefix_slots)

    def _plan(self, trie: TokenTrie) -> Plan:
        return build_plan(trie, self._target.layout).moved(lambda tensor: to_device(tensor, self._model.device))

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        return to_device(torch.from_numpy(array), self._model.device)


def in_order(prompts: Several[TokenIds]) -> list[int]:
    """Numbers of the prompts in the order in which neighbours share most."""
    order: list[int] = _sorted(prompts).order.tolist() if prompts else []
    return order


def _sorted(prompts: Several[TokenIds]) -> SortedPrompts:
    return SortedPrompts.of(prompts, [0] * len(prompts))


def _final_places(trie: TokenTrie) -> np.ndarray:
    """Of every prompt, its place among the plan's final rows: the distinct ones in ascending order."""
    return np.searchsorted(np.unique(trie.final_row), trie.final_row)


def _paths(trie: TokenTrie, stored: np.ndarray) -> list[np.ndarray]:
    """Of every prompt, the slot of each depth. stored: [skipped + rows] int64, the slot of each of the trie's own."""
    branch = np.searchsorted(trie.start, trie.final_row, side="right") - 1
    ends = trie.depth[trie.final_row] + 1
    paths = [stored[:0]] * len(branch)
    for index, slots in enumerate(trie.slots()):
        for sequence in np.flatnonzero(branch == index):
            paths[sequence] = stored[slots[: ends[sequence]]]
    return paths
