"""Sequences of token ids as a trie: every unique token gets one row, in depth-first preorder. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

TokenIds = np.ndarray  # [tokens] int64


def sort_key(ids: TokenIds) -> bytes:
    """A key whose byte order is the lexicographic order of the ids (big-endian, so that memcmp compares numbers)."""
    return ids.astype(">u4").tobytes()


def common_prefix(left: TokenIds, right: TokenIds) -> int:
    """Number of leading tokens that two sequences share."""
    length = min(len(left), len(right))
    if not length:
        return 0
    differs = left[:length] != right[:length]
    first = int(differs.argmax())
    return first if differs[first] else length


def as_token_ids(sequence: Sequence[int]) -> TokenIds:
    """A token-id list as the planner's array."""
    return np.asarray(sequence, dtype=np.int64)


def unique_tokens(sequences: Sequence[TokenIds]) -> int:
    """Rows of the trie of `sequences`, without building it."""
    ordered = sorted(sequences, key=sort_key)
    return sum(map(len, ordered)) - sum(map(common_prefix, ordered, ordered[1:]))


@dataclass(frozen=True)
class TokenTrie:
    """Unique tokens of many sequences. Sharing is token-exact.

    Rows are laid out in depth-first preorder. A branch is the run of rows that one sequence added below what earlier
    ones had laid: its rows are consecutive, and it hangs on the last row before it that is one less deep.

    Per row: token [rows] int64, depth [rows] int64 (= position id).
    Per branch: start, length, first_depth [branches] int64.
    Per sequence: final_row [sequences] int64. Duplicates share a final row; a prefix of another ends inside it.
    skipped: leading tokens that have no rows, because their K/V is already at hand (prefix cache).
    """

    token: np.ndarray
    depth: np.ndarray
    start: np.ndarray
    length: np.ndarray
    first_depth: np.ndarray
    final_row: np.ndarray
    skipped: int

    @classmethod
    def build(cls, sequences: Sequence[TokenIds], skipped: int = 0) -> TokenTrie:
        """Lay out `sequences` (at least one, each longer than `skipped`, and equal in those first tokens)."""
        order = sorted(range(len(sequences)), key=[sort_key(ids) for ids in sequences].__getitem__)
        longest = max(len(ids) for ids in sequences)
        path = np.empty(longest, dtype=np.int64)  # row at each depth of the sequence laid last
        final_row = np.empty(len(sequences), dtype=np.int64)
        tokens: list[TokenIds] = []
        branches: list[tuple[int, int, int]] = []
        rows = 0
        previous: TokenIds = sequences[order[0]][:skipped]
        for index in order:
            ids = sequences[index]
            shared = common_prefix(previous, ids)
            added = len(ids) - shared
            if added:
                branches.append((rows, added, shared))
                path[shared : len(ids)] = np.arange(rows, rows + added)
                tokens.append(ids[shared:])
                rows += added
            final_row[index] = path[len(ids) - 1]
            previous = ids
        start, length, first_depth = np.array(branches, dtype=np.int64).reshape(-1, 3).T
        return cls(
            token=np.concatenate(tokens) if tokens else np.empty(0, dtype=np.int64),
            depth=np.arange(rows) + np.repeat(first_depth - start, length),
            start=start,
            length=length,
            first_depth=first_depth,
            final_row=final_row,
            skipped=skipped,
        )

    @property
    def num_rows(self) -> int:
        return len(self.token)

    def paths(self) -> list[np.ndarray]:
        """Per branch, the row of every depth from `skipped` to the branch's end (int64)."""
        return [slots[self.skipped :] - self.skipped for slots in self.slots()]

    def slots(self) -> Iterator[np.ndarray]:
        """Per branch, the K/V slot of every depth from 0 to the branch's end (int64): row r has slot `skipped` + r.

        Each is a view that holds until the next is asked for.
        """
        ends = self.first_depth + self.length
        slots = np.arange(ends.max(initial=0))
        own = np.arange(self.skipped, self.skipped + self.num_rows)
        for start, first_depth, end in zip(self.start.tolist(), self.first_depth.tolist(), ends.tolist(), strict=True):
            # In preorder, what lies above a branch is on the path of the branch before it.
            slots[first_depth:end] = own[start : start + end - first_depth]
            yield slots[:end]
