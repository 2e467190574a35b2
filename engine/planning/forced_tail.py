"""What is appended to a continuation, and where labels are looked up after it. NumPy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from preftree.engine.planning.lookups import Labels, LookUps
from preftree.engine.planning.trie import TokenIds, TokenTrie


@dataclass(frozen=True)
class ForcedTail:
    """Rows that a sequence runs after its continuation, one after the other: the ending, then the tokens of longer
    labels, teacher-forced.

    They are a trie in depth-first preorder. So a row may take the place of an earlier one at its depth: what it
    overwrites is on no later row's path.

    token, depth: [rows] int64, depth counted from the end of the continuation. wanted: [rows] bool, rows after which
    something is looked up. look_ups: see there; row: [lookups] the row of each.
    """

    token: np.ndarray
    depth: np.ndarray
    wanted: np.ndarray
    look_ups: LookUps
    row: np.ndarray

    @classmethod
    def build(cls, ending: TokenIds, labels: Labels) -> ForcedTail:
        """ending: at least one token."""
        look_ups = LookUps.build([ending], [labels])
        trie = TokenTrie.build(look_ups.sequences)
        wanted = np.zeros(trie.num_rows, dtype=bool)
        wanted[trie.final_row] = True
        return cls(trie.token, trie.depth, wanted, look_ups, trie.final_row[look_ups.sequence])

    def __len__(self) -> int:
        return len(self.token)

    @property
    def slots(self) -> int:
        """K/V slots that it needs: one for each depth."""
        return int(self.depth.max()) + 1

    @cached_property
    def num_wanted(self) -> int:
        """Rows after which something is looked up."""
        return int(self.wanted.sum())

    def tokens_looked_up(self, row: int) -> np.ndarray:
        """Tokens whose logits are wanted after `row`, in the order of the lookups."""
        return self.look_ups.token[self.row == row]

    def scores(self, logits: Sequence[np.ndarray], normalisers: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """Log-probability and logit of every label, [labels] float64; nan as in `LookUps.by_label`.

        logits: for each wanted row those of `tokens_looked_up`; normalisers: its log-sum-exp over the vocabulary.
        """
        logit, normaliser = np.empty(len(self.row)), np.empty(len(self.row))
        for row, of_row, log_sum in zip(np.flatnonzero(self.wanted), logits, normalisers, strict=True):
            logit[self.row == row] = of_row
            normaliser[self.row == row] = log_sum
        logprob, raw = self.look_ups.by_label(logit, normaliser)
        return logprob[0], raw[0]
