"""Tiles: every row once, at the lane of its depth, above exactly its own path."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from preftree.engine.planning.plan import build_plan
from preftree.engine.planning.tiling import MOST_SLOTS, path_tiles
from preftree.engine.planning.trie import TokenTrie
from preftree.kernels.tiles import PathTiles, PlanLayout
from tests.kernels.shapes import random_sequences, tile_groups


def paths_of_rows(trie: TokenTrie) -> dict[int, list[int]]:
    """The K/V slot of every depth up to each row."""
    paths = {}
    for path, start, length, depth in zip(trie.paths(), trie.start, trie.length, trie.first_depth, strict=True):
        for i in range(length):
            slots = path[: depth - trie.skipped + i + 1] + trie.skipped
            paths[int(start) + i] = [*range(trie.skipped), *slots.tolist()]
    return paths


@pytest.mark.parametrize("skipped", [0, 5, 16, 21])
@pytest.mark.parametrize("lanes", [8, 16])
def test_tiles(skipped: int, lanes: int) -> None:
    prefix = np.full(skipped, 9)
    trie = TokenTrie.build([np.concatenate([prefix, ids]) for ids in random_sequences(4, 8, 60)], skipped)
    plan = build_plan(trie, PlanLayout(row_block=32, final_row_block=8, tile_rows=lanes, aligned=True))
    path_of_row = paths_of_rows(trie)
    seen = []
    for group in tile_groups(plan.tiles):
        assert group.lanes == lanes
        assert group.keys % lanes == 0
        for rows, slots in zip(group.rows.tolist(), group.slots.tolist(), strict=True):
            for lane, row in enumerate(rows):
                if row < trie.num_rows:
                    seen.append(row)
                    depth = int(trie.depth[row])
                    assert lane == depth % lanes
                    assert slots[: depth + 1] == path_of_row[row]
                    assert group.keys == (depth // lanes + 1) * lanes
                else:
                    assert row == len(plan.tokens), "an empty lane points at the scratch row"
    assert sorted(seen) == list(range(trie.num_rows))


def test_final_tiles_hold_final_rows_only() -> None:
    trie = TokenTrie.build(random_sequences(6, 8, 60))
    plan = build_plan(trie, PlanLayout(32, 8, 16, aligned=True))
    finals = plan.final_rows[: plan.num_finals]
    assert finals.tolist() == np.unique(trie.final_row).tolist()
    assert len(plan.final_rows) % 8 == 0
    places = [place for group in tile_groups(plan.final_tiles) for rows in group.rows.tolist() for place in rows]
    real = [place for place in places if place < plan.num_finals]
    assert sorted(real) == list(range(plan.num_finals))
    assert all(place in (*range(plan.num_finals), len(plan.final_rows)) for place in places)


@pytest.mark.parametrize("skipped", [0, 21])
@pytest.mark.parametrize("tile_rows", [1, 7, 32])
def test_path_tiles(skipped: int, tile_rows: int) -> None:
    """The GPU's tiles: every row once, its slots listed from depth 0; final tiles hold final rows only."""
    prefix = np.full(skipped, 9)
    trie = TokenTrie.build([np.concatenate([prefix, ids]) for ids in random_sequences(4, 8, 60)], skipped)
    plan = build_plan(trie, PlanLayout(row_block=32, final_row_block=8, tile_rows=tile_rows, aligned=False))
    paths = paths_of_rows(trie)
    for tiles, rows in ((plan.tiles, np.arange(trie.num_rows)), (plan.final_tiles, np.unique(trie.final_row))):
        assert isinstance(tiles, PathTiles)
        seen = []
        for first, count, depth, start in zip(
            tiles.first_row.tolist(),
            tiles.num_rows.tolist(),
            tiles.first_depth.tolist(),
            tiles.path.tolist(),
            strict=True,
        ):
            assert 1 <= count <= tiles.max_rows
            for i in range(count):
                row = int(rows[first + i])
                seen.append(row)
                assert trie.depth[row] == depth + i
                assert tiles.slots[start : start + depth + i + 1].tolist() == paths[row]
        assert sorted(seen) == rows.tolist()


def test_paths_longer_than_32_bits_count() -> None:
    """Offsets that wrap would send a tile to another tile's path. Two branches, the second far below the first."""
    trie = TokenTrie.build([np.array([1, 2]), np.array([1, 3])])
    too_deep = replace(trie, first_depth=np.array([0, MOST_SLOTS - 2]))
    with pytest.raises(AssertionError, match=r"2 branches list 2,147,483,648 slots .* 2,147,483,647 are the limit"):
        path_tiles(too_deep, 16)
