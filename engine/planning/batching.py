"""Which prompts go through the model together. NumPy only.

A prompt comes with its continuations: the tokens of a label but its last, which are teacher-forced. Prompts are cut
into batches in sorted order, where neighbours share most; what two batches share is run in both, unless all prompts
share it and the prefix cache has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from preftree.engine.planning.prefix import PrefixPolicy
from preftree.engine.planning.trie import TokenIds, common_prefix, sort_key

# A batch may end early, at the place of least sharing in the last part of its budget, so that a pair stays together:
# that share of it, and as many rows at most. Rows that a batch lacks to whole row blocks are padding.
EARLY_CUT = 0.25
EARLY_ROWS = 2048


@dataclass(frozen=True)
class Batch:
    """prompts: indices of those that run together. rows: what they need, an upper bound where labels share tokens.

    rope_variant: of the prompts, see `RopeConfig.rope_variant`. Only batches of rope_variant 0 use the prefix cache.
    """

    prompts: np.ndarray
    rows: int
    rope_variant: int = 0


@dataclass(frozen=True)
class Schedule:
    """The batches of one call.

    skipped: leading tokens of every prompt of RoPE variant 0 that come from the prefix cache.
    new_prefix: tokens to put into the prefix cache before the batches run, or None.
    unique_tokens: rows of one trie over all prompts.
    """

    batches: list[Batch]
    skipped: int
    new_prefix: TokenIds | None
    unique_tokens: int

    @property
    def rows(self) -> int:
        """Rows that go through the model, those of a new prefix included."""
        return sum(batch.rows for batch in self.batches) + (0 if self.new_prefix is None else len(self.new_prefix))


def schedule(
    prompts: Sequence[TokenIds],
    continuation_tokens: Sequence[int],
    budget: int,
    prefixes: PrefixPolicy | None,
    rope_variants: Sequence[int] | None = None,
) -> Schedule:
    """Cut `prompts` into batches of at most `budget` rows, at least one prompt to a batch.

    continuation_tokens: rows that each prompt's labels add. prefixes: None for no prefix cache. rope_variants: of every
    prompt, None where all are 0. Prompts of different rope_variants share nothing.
    """
    if rope_variants is None or not any(rope_variants):
        return _schedule(prompts, continuation_tokens, budget, prefixes)
    batches: list[Batch] = []
    skipped, unique_tokens = 0, 0
    new_prefix: TokenIds | None = None
    for rope_variant in sorted(set(rope_variants)):
        mine = np.flatnonzero(np.array(rope_variants) == rope_variant)
        forced = [continuation_tokens[index] for index in mine.tolist()]
        part = _schedule(
            [prompts[index] for index in mine.tolist()], forced, budget, None if rope_variant else prefixes
        )
        batches += [Batch(mine[batch.prompts], batch.rows, rope_variant) for batch in part.batches]
        unique_tokens += part.unique_tokens
        if not rope_variant:
            skipped, new_prefix = part.skipped, part.new_prefix
    return Schedule(batches, skipped, new_prefix, unique_tokens)


def _schedule(
    prompts: Sequence[TokenIds], continuation_tokens: Sequence[int], budget: int, prefixes: PrefixPolicy | None
) -> Schedule:
    """As `schedule`, for prompts of one RoPE variant."""
    order = SortedPrompts.of(prompts, continuation_tokens)
    batches = order.cut(budget, skipped=0)
    skipped, new_prefix = 0, None
    if prefixes is not None:
        new_prefix = prefixes.choose(order.shared_by_all, several_batches=len(batches) > 1)
        skipped = prefixes.usable(order.shared_by_all) if new_prefix is None else len(new_prefix)
        batches = order.cut(budget, skipped)
    return Schedule(batches, skipped, new_prefix, unique_tokens=int(order.added.sum()))


def recut(prompts: Sequence[TokenIds], continuation_tokens: Sequence[int], budget: int, skipped: int) -> list[Batch]:
    """Smaller batches of prompts that were scheduled together; their prefix stays where it is."""
    return SortedPrompts.of(prompts, continuation_tokens).cut(budget, skipped)


@dataclass(frozen=True)
class SortedPrompts:
    """Prompts in the order in which neighbours share most.

    order: [prompts] index of the prompt at each sorted place. shared: [prompts] leading tokens shared with the one
    before. added: [prompts] rows that each adds below those. shared_by_all: what all prompts begin with, one token less
    than the shortest at most."""

    order: np.ndarray
    shared: np.ndarray
    added: np.ndarray
    shared_by_all: TokenIds

    @classmethod
    def of(cls, prompts: Sequence[TokenIds], continuation_tokens: Sequence[int]) -> SortedPrompts:
        keys = [sort_key(ids) for ids in prompts]
        order = np.array(sorted(range(len(prompts)), key=keys.__getitem__))
        ordered = [prompts[index] for index in order]
        shared = np.array([0, *map(common_prefix, ordered, ordered[1:])])
        lengths = np.array([len(ids) for ids in ordered])
        added = lengths - shared + np.array(continuation_tokens)[order]
        by_all = min(common_prefix(ordered[0], ordered[-1]), int(lengths.min()) - 1)
        return cls(order, shared, added, ordered[0][:by_all])

    def cut(self, budget: int, skipped: int) -> list[Batch]:
        """Batches of at most `budget` rows, at least one prompt to a batch."""
        batches = []
        first, count = 0, len(self.order)
        while first < count:
            # Rows of a batch that ends after each place: its first prompt shares with nobody but the prefix cache.
            totals = np.cumsum(self.added[first:]) + self.shared[first] - skipped
            last = first + max(1, int(np.searchsorted(totals, budget, side="right")))
            if last < count:
                enough = budget - min(budget * EARLY_CUT, EARLY_ROWS)
                earliest = first + max(1, int(np.searchsorted(totals, enough, side="right")))
                last = self._least_shared(min(earliest, last), last)
            batches.append(Batch(self.order[first:last], int(totals[last - first - 1])))
            first = last
        return batches

    def _least_shared(self, earliest: int, latest: int) -> int:
        """The place in [earliest, latest] that shares least with the one before it; of several, the latest."""
        places = np.arange(latest, earliest - 1, -1)
        return int(places[np.argmin(self.shared[places])])
