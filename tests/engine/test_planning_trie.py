"""The trie holds every unique token once, and every sequence can be read back from it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from preftree.engine.planning.trie import TokenTrie, common_prefix, sort_key, unique_tokens

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=25)


def as_arrays(sequences: list[list[int]]) -> list[np.ndarray]:
    return [np.array(ids, dtype=np.int64) for ids in sequences]


@given(SEQUENCES, st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_round_trip(lists: list[list[int]], skipped: int) -> None:
    """Duplicates, prefixes of one another, and skipped leading tokens; catches wrong parents and off-by-one paths."""
    prefix = [7] * skipped
    sequences = as_arrays([prefix + ids for ids in lists])
    trie = TokenTrie.build(sequences, skipped)
    assert trie.num_rows == len({tuple(ids[: i + 1]) for ids in lists for i in range(len(ids))})
    assert unique_tokens(sequences) == trie.num_rows + skipped
    paths = trie.paths()
    branch_of_row = np.repeat(np.arange(len(trie.start)), trie.length)
    for ids, final in zip(sequences, trie.final_row, strict=True):
        path = paths[branch_of_row[final]][: len(ids) - skipped]
        assert path[-1] == final
        assert trie.token[path].tolist() == ids[skipped:].tolist()
        assert trie.depth[path].tolist() == list(range(skipped, len(ids)))


@given(SEQUENCES)
@settings(max_examples=100, deadline=None)
def test_preorder(lists: list[list[int]]) -> None:
    """Rows are in depth-first preorder: a branch hangs on the nearest earlier row that is one less deep."""
    trie = TokenTrie.build(as_arrays(lists))
    for start, depth, path in zip(trie.start, trie.first_depth, trie.paths(), strict=True):
        if depth:
            parent = path[depth - 1]
            assert trie.depth[parent] == depth - 1
            assert (trie.depth[parent + 1 : start] >= depth).all()


@given(SEQUENCES, st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_slots_are_the_prefix_and_the_path(lists: list[list[int]], skipped: int) -> None:
    """Catches a branch that keeps a slot of the branch before it."""
    trie = TokenTrie.build(as_arrays([[7] * skipped + ids for ids in lists]), skipped)
    slots = [view.tolist() for view in trie.slots()]
    assert slots == [[*range(skipped), *(path + skipped).tolist()] for path in trie.paths()]
    for path, branch_slots in zip(trie.paths(), slots, strict=True):
        assert trie.depth[path].tolist() == list(range(skipped, len(branch_slots)))


def test_order_of_the_input_does_not_matter() -> None:
    generator = np.random.default_rng(0)
    sequences = [generator.integers(0, 3, generator.integers(1, 20)) for _ in range(50)]
    trie, reversed_trie = TokenTrie.build(sequences), TokenTrie.build(sequences[::-1])
    assert trie.token.tolist() == reversed_trie.token.tolist()
    assert trie.final_row.tolist() == reversed_trie.final_row[::-1].tolist()


def test_sort_key_orders_as_numbers() -> None:
    """Little-endian bytes would put 256 before 1."""
    low, high = np.array([1, 5]), np.array([256])
    assert sort_key(low) < sort_key(high)


def test_common_prefix() -> None:
    assert common_prefix(np.array([1, 2, 3]), np.array([1, 2, 4, 5])) == 2
    assert common_prefix(np.array([1, 2]), np.array([1, 2, 4])) == 2
    assert common_prefix(np.array([], dtype=np.int64), np.array([1])) == 0
