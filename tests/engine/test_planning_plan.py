"""Tiles: every row once, at the lane of its depth, above exactly its own path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from preftree.engine.planning.plan import build_plan
from preftree.engine.planning.tiling import MOST_SLOTS, path_tiles
from preftree.engine.planning.trie import TokenTrie
from preftree.kernels.tiles import PathTiles, PlanLayout, Tile, Tiles
from tests.kernels.shapes import random_sequences, tile_runs


def paths_of_rows(trie: TokenTrie) -> dict[int, list[int]]:
    """The K/V slot of every depth up to each row."""
    paths = {}
    for path, start, length, depth in zip(trie.paths(), trie.start, trie.length, trie.first_depth, strict=True):
        for i in range(length):
            slots = path[: depth - trie.skipped + i + 1] + trie.skipped
            paths[int(start) + i] = [*range(trie.skipped), *slots.tolist()]
    return paths


def paths_of_tiles(tiles: Tiles) -> Iterator[tuple[int, Tile, list[int]]]:
    """Every tile with the number of its run, and the slots of its path: what it adds to that of the tile before."""
    for number, run in enumerate(tile_runs(tiles)):
        path: list[int] = []
        for tile in run.tiles:
            assert len(path) >= tile.fresh
            path = [*path[: tile.fresh], *tile.slots.tolist()]
            assert len(path) == tile.keys
            yield number, tile, path


@pytest.mark.parametrize("skipped", [0, 5, 16, 21])
@pytest.mark.parametrize("lanes", [8, 16])
def test_tile_runs(skipped: int, lanes: int) -> None:
    prefix = np.full(skipped, 9)
    trie = TokenTrie.build([np.concatenate([prefix, ids]) for ids in random_sequences(4, 8, 60)], skipped)
    plan = build_plan(trie, PlanLayout(32, 8, lanes, tiles="runs"))
    path_of_row = paths_of_rows(trie)
    seen = []
    for number, tile, path in paths_of_tiles(plan.tiles):
        assert tile.keys % lanes == 0
        assert tile.lane + tile.rows <= tile.lanes <= lanes
        for i in range(tile.rows):
            row, depth = tile.first_row + i, tile.first_depth + tile.lane + i
            seen.append(row)
            assert row // 32 == number, "a run is a chunk of rows"
            assert depth == trie.depth[row]
            assert path[: depth + 1] == path_of_row[row]
            assert tile.lane + i == depth % lanes
            assert tile.keys == (depth // lanes + 1) * lanes
    assert seen == list(range(trie.num_rows))


def test_final_tiles_hold_final_rows_only() -> None:
    trie = TokenTrie.build(random_sequences(6, 30, 60))
    plan = build_plan(trie, PlanLayout(32, 8, 16, tiles="runs"))
    finals = plan.final_rows[: plan.num_finals]
    assert finals.tolist() == np.unique(trie.final_row).tolist()
    assert len(plan.final_rows) % 8 == 0
    assert len(tile_runs(plan.final_tiles)) == len(plan.final_rows) // 8 > 2
    path_of_row = paths_of_rows(trie)
    places = []
    for number, tile, path in paths_of_tiles(plan.final_tiles):
        assert tile.rows == 1
        assert tile.first_row // 8 == number
        row = int(finals[tile.first_row])
        depth = tile.first_depth + tile.lane
        assert path[: depth + 1] == path_of_row[row]
        places.append(tile.first_row)
    assert places == list(range(plan.num_finals))


@pytest.mark.parametrize("skipped", [0, 21])
@pytest.mark.parametrize("tile_rows", [1, 7, 32])
def test_path_tiles(skipped: int, tile_rows: int) -> None:
    """The GPU's tiles: every row once, its slots listed from depth 0; final tiles hold final rows only."""
    prefix = np.full(skipped, 9)
    trie = TokenTrie.build([np.concatenate([prefix, ids]) for ids in random_sequences(4, 8, 60)], skipped)
    plan = build_plan(trie, PlanLayout(row_block=32, final_row_block=8, tile_rows=tile_rows))
    paths = paths_of_rows(trie)
    for tiles, rows in ((plan.tiles, np.arange(trie.num_rows)), (plan.final_tiles, np.unique(trie.final_row))):
        assert isinstance(tiles, PathTiles)
        assert tiles.first_depth.tolist() == sorted(tiles.first_depth.tolist(), reverse=True)
        assert sorted(rows_of(tiles, rows, trie, paths)) == rows.tolist()


@pytest.mark.parametrize("low_rows", [1, 4, 32])
def test_low_tiles(low_rows: int) -> None:
    """Catches rows that are in no tile, or in two, and short tiles that stay among the tall ones."""
    trie = TokenTrie.build(random_sequences(4, 8, 60))
    plan = build_plan(trie, PlanLayout(row_block=32, final_row_block=8, tile_rows=32, low_tile_rows=low_rows))
    assert isinstance(plan.tiles, tuple)
    paths, seen = paths_of_rows(trie), []
    for tiles, most in zip(plan.tiles, (32, low_rows), strict=True):
        assert isinstance(tiles, PathTiles)
        assert tiles.max_rows == most
        assert tiles.first_depth.tolist() == sorted(tiles.first_depth.tolist(), reverse=True)
        assert all((rows <= low_rows) == (tiles is plan.tiles[1]) for rows in tiles.num_rows.tolist())
        seen += rows_of(tiles, np.arange(trie.num_rows), trie, paths)
    assert sorted(seen) == list(range(trie.num_rows))


@pytest.mark.parametrize("skipped", [0, 21])
def test_chunks_of_path_tiles(skipped: int) -> None:
    """Those of a chunk of rows each, in preorder."""
    prefix = np.full(skipped, 9)
    trie = TokenTrie.build([np.concatenate([prefix, ids]) for ids in random_sequences(4, 30, 60)], skipped)
    plan = build_plan(trie, PlanLayout(row_block=32, final_row_block=8, tile_rows=32, in_chunks=True))
    paths = paths_of_rows(trie)
    finals = np.unique(trie.final_row)
    for chunks, rows, size in ((plan.tiles, np.arange(trie.num_rows), 32), (plan.final_tiles, finals, 8)):
        assert isinstance(chunks, tuple)
        assert len(chunks) == -(-len(rows) // size) > 2
        for number, tiles in enumerate(chunks):
            assert isinstance(tiles, PathTiles)
            assert rows_of(tiles, rows, trie, paths) == rows[number * size : (number + 1) * size].tolist()


def test_chunks_give_all_threads_as_much() -> None:
    layout = PlanLayout(row_block=32, final_row_block=8, tile_rows=32, in_chunks=True, chunk_blocks=16, threads=2)
    assert [layout.chunk_rows_of(rows) for rows in (1, 100, 1100, 3705, 16_384)] == [32, 64, 288, 480, 512]
    whole = PlanLayout(row_block=128, final_row_block=8, tile_rows=32, in_chunks=True, threads=2)
    assert {whole.chunk_rows_of(rows) for rows in (1, 100, 1100, 3705)} == {128}


def rows_of(tiles: PathTiles, rows: np.ndarray, trie: TokenTrie, paths: dict[int, list[int]]) -> list[int]:
    """Those of the trie that are in the tiles, whose paths are checked. rows: which one each query row is."""
    seen = []
    columns = (tiles.first_row, tiles.num_rows, tiles.first_depth, tiles.path)
    for first, count, depth, start in zip(*(column.tolist() for column in columns), strict=True):
        assert 1 <= count <= tiles.max_rows
        for i in range(count):
            row = int(rows[first + i])
            seen.append(row)
            assert trie.depth[row] == depth + i
            assert tiles.slots[start : start + depth + i + 1].tolist() == paths[row]
    return seen


def test_paths_longer_than_32_bits_count() -> None:
    """Offsets that wrap would send a tile to another tile's path. Two branches, the second far below the first."""
    trie = TokenTrie.build([np.array([1, 2]), np.array([1, 3])])
    too_deep = replace(trie, first_depth=np.array([0, MOST_SLOTS - 2]))
    with pytest.raises(AssertionError, match=r"2 branches list 2,147,483,648 slots .* 2,147,483,647 are the limit"):
        path_tiles(too_deep, 16)
