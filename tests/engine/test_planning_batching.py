"""Batches hold every prompt once, keep to their budget, and count their rows as the trie does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preftree.engine.planning.batching import schedule
from preftree.engine.planning.prefix import MIN_CACHED_TOKENS, PrefixPolicy
from preftree.engine.planning.trie import TokenTrie
from tests.engine.test_planning_trie import SEQUENCES, as_arrays


@given(SEQUENCES, st.integers(1, 60))
@settings(max_examples=200, deadline=None)
def test_batches(lists: list[list[int]], budget: int) -> None:
    prompts = as_arrays(lists)
    planned = schedule(prompts, [0] * len(prompts), budget, None)
    assert sorted(index for batch in planned.batches for index in batch.prompts) == list(range(len(prompts)))
    assert planned.unique_tokens == TokenTrie.build(prompts).num_rows
    for batch in planned.batches:
        assert batch.rows == TokenTrie.build([prompts[index] for index in batch.prompts]).num_rows
        assert batch.rows <= budget or len(batch.prompts) == 1


def run_prompts(shared: int, count: int, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [np.concatenate([np.arange(shared), generator.integers(1000, 9000, 40)]) for _ in range(count)]


def test_prefix_of_several_batches_is_run_once() -> None:
    policy = PrefixPolicy()
    prompts = run_prompts(100, 20, seed=1)
    planned = schedule(prompts, [0] * 20, 400, policy)
    assert planned.new_prefix is not None
    assert planned.new_prefix.tolist() == list(range(100))
    assert planned.rows == 100 + 20 * 40
    assert planned.skipped == 100


def test_prefix_is_kept_once_it_comes_back() -> None:
    """The first call of one batch shares within its own trie; the second call pays once; the third pays nothing."""
    policy = PrefixPolicy()
    rows = []
    for call in range(4):
        planned = schedule(run_prompts(100, 4, seed=call), [0] * 4, 4000, policy)
        if planned.new_prefix is not None:
            policy.keep(planned.new_prefix)
        rows.append(planned.rows)
    assert rows == [100 + 160, 100 + 160, 160, 160]


@pytest.mark.parametrize("shared", [1, MIN_CACHED_TOKENS - 1])
def test_short_prefixes_are_not_kept(shared: int) -> None:
    planned = schedule(run_prompts(shared, 20, seed=2), [0] * 20, 200, PrefixPolicy())
    assert planned.new_prefix is None


def test_a_prompt_that_is_the_prefix_keeps_a_row_to_run() -> None:
    """Were all of its tokens skipped, its final row would not exist."""
    prompts = [np.arange(60), np.arange(90)]
    planned = schedule(prompts, [0, 0], 10, PrefixPolicy())
    assert planned.skipped == 59
