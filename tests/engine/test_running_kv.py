"""Slots that are taken, held and given back; what is appended to a continuation; when it is over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from preftree.engine.decoding.stopping import StopRule
from preftree.engine.model.kv import KvStore
from preftree.engine.planning.forced_tail import ForcedTail
from preftree.engine.planning.lookups import LookUps
from preftree.engine.planning.trie import as_token_ids


def store_of(slots: int) -> KvStore:
    return KvStore([torch.empty(slots + 1, 2, 1, 2)])


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.randoms())
@settings(max_examples=50, deadline=None)
def test_slots_are_held_by_those_who_hold_them(sizes: list[int], random: object) -> None:
    """No slot has two owners, shared ones outlive their first holder, and in the end all are free."""
    store = store_of(sum(sizes) + 3)
    held: list[np.ndarray] = []
    shared = store.take(3)
    store.hold(shared)
    for size in sizes:
        own = store.take(size)
        store.hold(np.concatenate([shared, own]))
        held.append(own)
    store.drop(shared)
    assert store.num_free == 0
    everything = np.concatenate([shared, *held])
    assert len(set(everything.tolist())) == len(everything)
    random.shuffle(held)  # type: ignore[attr-defined]
    for count, own in enumerate(held, start=1):
        store.drop(np.concatenate([shared, own]))
        assert store.num_free == sum(map(len, held[:count])) + (3 if count == len(held) else 0)
    assert sorted(store.take(store.num_slots).tolist()) == list(range(store.num_slots))


def walk(tail: ForcedTail) -> list[tuple[int, ...]]:
    """The path that each row of a tail attends to, when a row takes the place of an earlier one at its depth."""
    path: dict[int, int] = {}
    seen = []
    for token, depth in zip(tail.token.tolist(), tail.depth.tolist(), strict=True):
        path[depth] = token
        seen.append(tuple(path[place] for place in range(depth + 1)))
    return seen


def test_a_tail_leads_through_every_label() -> None:
    """Labels that fork twice: an overwritten slot that is needed again would show in a path."""
    labels = [[1], [1, 0], [2, 5, 6], [2, 5, 7], [2, 8], [3, 4, 4, 4]]
    tail = ForcedTail.build(as_token_ids([9, 9, 8]), labels)
    expected = LookUps.build([as_token_ids([9, 9, 8])], [labels]).sequences
    paths = walk(tail)
    found = {paths[row] for row in np.flatnonzero(tail.wanted)}
    assert found == {tuple(sequence.tolist()) for sequence in expected}
    assert tail.slots == 3 + 3
    assert len(tail) == 3 + len({(1,), (2,), (2, 5), (3,), (3, 4), (3, 4, 4)})


def test_scores_of_a_tail_are_summed_over_a_labels_tokens() -> None:
    labels = [[1], [2, 3]]
    tail = ForcedTail.build(as_token_ids([9]), labels)
    rows = np.flatnonzero(tail.wanted).tolist()
    logits = [np.array([0.5, 0.25]) if row == 0 else np.array([2.0]) for row in rows]
    assert [tail.tokens_looked_up(row).tolist() for row in rows] == [[1, 2], [3]]
    logprob, logit = tail.scores(logits, [1.0, 4.0])
    assert logprob.tolist() == [-0.5, 0.25 - 1.0 + 2.0 - 4.0]
    assert logit[0] == 0.5
    assert np.isnan(logit[1])


def spelled(ids: Sequence[int]) -> str:
    return "".join(("a", "b", "ab", "-", "b-c", "é")[index] for index in ids)


def test_tokens_before_a_stop_text_are_kept() -> None:
    """A stop text that begins or ends inside a token, and one that a single token holds."""
    rule = StopRule(frozenset(), ("b-", "é"), spelled)
    assert rule.kept([0, 1]) is None
    assert rule.kept([0, 1, 3]) == (1, "")
    assert rule.kept([0, 2, 3]) == (1, "a"), "'ab' holds the beginning of the stop text"
    assert rule.kept([0, 0, 4]) == (2, "")
    assert rule.kept([4]) == (0, "")
    assert rule.kept([0, 5]) == (1, "")
    assert StopRule(frozenset(), (), spelled).kept([4]) is None
