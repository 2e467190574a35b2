"""Inputs for kernel tests: a small trie with nodes that start and end anywhere, and its tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from preftree.engine.planning.plan import Plan, build_plan
from preftree.engine.planning.trie import TokenTrie
from preftree.kernels import avx512
from preftree.kernels.tiles import PlanLayout, TileRun, Tiles

LAYOUT = PlanLayout(row_block=32, final_row_block=8, tile_rows=16, tiles="runs", in_chunks=True)
PATH_LAYOUT = PlanLayout(row_block=32, final_row_block=8, tile_rows=32, tiles="paths", in_chunks=True)

needs_avx512 = pytest.mark.skipif(avx512.obstacle() is not None, reason=str(avx512.obstacle()))


def random_sequences(seed: int, count: int, longest: int, vocabulary: int = 3) -> list[np.ndarray]:
    """Sequences that share prefixes of any length, duplicates and prefixes of one another among them."""
    generator = np.random.default_rng(seed)
    trunk = generator.integers(0, vocabulary, longest)
    sequences = []
    for _ in range(count):
        kept = int(generator.integers(0, longest))
        tail = generator.integers(0, vocabulary, int(generator.integers(1, longest - kept + 1)))
        sequences.append(np.concatenate([trunk[:kept], tail]))
    return [*sequences, sequences[0], trunk[: max(1, longest // 2)], trunk]


def random_plan(seed: int, count: int = 6, longest: int = 70, layout: PlanLayout = LAYOUT) -> tuple[TokenTrie, Plan]:
    trie = TokenTrie.build(random_sequences(seed, count, longest))
    return trie, build_plan(trie, layout)


def poisoned_attention_inputs(
    plan: Plan, rows: int, heads: int, kv_heads: int, size: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and K/V with NaN wherever nothing was written: padding rows, and slots beyond the trie's rows."""
    generator = torch.Generator().manual_seed(seed)
    queries = torch.full((len(plan.tokens), heads, size), float("nan"))
    queries[:rows] = torch.randn(rows, heads, size, generator=generator)
    kv = torch.full((plan.num_slots, 2, kv_heads, size), float("nan"))
    kv[: plan.prefix + rows] = torch.randn(plan.prefix + rows, 2, kv_heads, size, generator=generator)
    return queries, kv


def sinks_of(heads: int) -> torch.Tensor:
    """[heads] float32: from a sink that leaves little to one that takes nothing."""
    return torch.linspace(6, -90, heads)


def with_sinks(options: dict[str, Any], heads: int) -> dict[str, Any]:
    """Options of attention, {"sinks": True} become those of `sinks_of`."""
    return options | {"sinks": sinks_of(heads)} if options.get("sinks") else options


def tile_runs(tiles: Tiles) -> tuple[TileRun, ...]:
    """Tiles of a plan for the operations in plain torch."""
    assert isinstance(tiles, tuple)
    runs = tuple(run for run in tiles if isinstance(run, TileRun))
    assert len(runs) == len(tiles)
    return runs
