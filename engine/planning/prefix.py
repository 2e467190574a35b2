"""Which leading tokens of a run are worth keeping. NumPy only; their K/V lives in `engine.model.prefix_cache`."""

from __future__ import annotations

import numpy as np

from preftree.engine.planning.trie import TokenIds, common_prefix

# Fewer tokens than this are not worth a forward pass of their own, which runs whole row blocks.
MIN_CACHED_TOKENS = 32


class PrefixPolicy:
    """Proposes tokens that came back, in a second batch of one call or in the next call.

    What the prompts of a single batch share is no reason to cache it, since the batch's own trie runs it once.
    cached: the tokens whose K/V is at hand.
    """

    def __init__(self) -> None:
        self.cached: TokenIds = np.empty(0, dtype=np.int64)
        self._last_shared: TokenIds = self.cached

    def choose(self, shared: TokenIds, several_batches: bool) -> TokenIds | None:
        """For prompts that are longer than `shared` and all begin with it: the tokens to cache in place of the present
        ones before they run, or None to leave the cache as it is."""
        recurring = shared if several_batches else shared[: common_prefix(self._last_shared, shared)]
        self._last_shared = shared
        worth_it = len(recurring) - self.usable(shared) >= MIN_CACHED_TOKENS
        return recurring if worth_it else None

    def usable(self, shared: TokenIds) -> int:
        """How many cached tokens serve prompts that begin with `shared`."""
        return common_prefix(self.cached, shared)

    def keep(self, tokens: TokenIds) -> None:
        """The K/V of `tokens` is at hand now."""
        self.cached = tokens
