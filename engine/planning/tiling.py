"""Branches cut into the tiles that the attention kernels walk. NumPy inside, tensors out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch

from preftree.engine.planning.trie import TokenTrie
from preftree.kernels.tiles import PathTiles, Tile, TileRun

MOST_SLOTS = 2**31 - 1


def tile_runs(trie: TokenTrie, lanes: int, run_rows: int) -> tuple[TileRun, ...]:
    """Every branch in tiles that end at depths which `lanes` divides, one run for every `run_rows` rows of the trie."""
    row = np.arange(trie.num_rows)
    run = row // run_rows
    first = np.flatnonzero(_changes(_branches(trie), run, trie.depth // lanes))
    return _runs(trie, _branches(trie)[first], trie.depth[first], first, _lengths(first, trie), run[first], lanes)


def final_tile_runs(trie: TokenTrie, place: np.ndarray, lanes: int, run_rows: int) -> tuple[TileRun, ...]:
    """A tile for every row with a place in `place` [rows] (-1: none), one run for every `run_rows` places.

    Places ascend with rows.
    """
    rows = np.flatnonzero(place >= 0)
    run = place[rows] // run_rows
    return _runs(trie, _branches(trie)[rows], trie.depth[rows], place[rows], np.ones_like(rows), run, lanes)


def path_tiles(trie: TokenTrie, max_rows: int) -> PathTiles:
    """Every branch in tiles of up to `max_rows` rows, the deepest first: the longest walks should not start last."""
    tiles_of = -(-trie.length // max_rows)
    branch = np.repeat(np.arange(len(tiles_of)), tiles_of)
    number = np.arange(len(branch)) - (np.cumsum(tiles_of) - tiles_of)[branch]  # of the tile in its branch
    first = max_rows * number
    rows = np.minimum(max_rows, trie.length[branch] - first)
    depth = trie.first_depth[branch] + first
    slots = _path_slots(trie)
    return _deepest_first(_path_tiles(trie, branch, trie.start[branch] + first, rows, depth, max_rows, slots))


def by_height(tiles: PathTiles, low_rows: int) -> tuple[PathTiles, ...]:
    """Tiles of more than `low_rows` rows, and those of as many at most: what of a branch is short, or left over."""
    is_low = tiles.num_rows <= low_rows
    return _chosen(tiles, ~is_low), replace(_chosen(tiles, is_low), max_rows=low_rows)


def final_path_tiles(trie: TokenTrie, place: np.ndarray, slots: torch.Tensor) -> PathTiles:
    """A tile of one row for every row with a place in `place` [rows] (-1: none), whose query row is that place.

    slots: those of `path_tiles` for the same trie.
    """
    rows = np.flatnonzero(place >= 0)
    branch = _branches(trie)[rows]
    return _deepest_first(_path_tiles(trie, branch, place[rows], np.ones_like(rows), trie.depth[rows], 1, slots))


def chunk_path_tiles(trie: TokenTrie, chunk_rows: int) -> tuple[PathTiles, ...]:
    """A tile for what of a branch is in a chunk, in preorder; for every `chunk_rows` rows of the trie."""
    chunk = np.arange(trie.num_rows) // chunk_rows
    first = np.flatnonzero(_changes(_branches(trie), chunk))
    branch, rows, depth = _branches(trie)[first], _lengths(first, trie), trie.depth[first]
    whole = _path_tiles(trie, branch, first, rows, depth, chunk_rows, _path_slots(trie))
    return _split(whole, chunk[first])


def final_chunk_path_tiles(
    trie: TokenTrie, place: np.ndarray, chunk_rows: int, slots: torch.Tensor
) -> tuple[PathTiles, ...]:
    """A tile for every row with a place in `place` [rows] (-1: none), for every `chunk_rows` places.

    Places ascend with rows. slots: those of `chunk_path_tiles` for the same trie.
    """
    rows = np.flatnonzero(place >= 0)
    whole = _path_tiles(trie, _branches(trie)[rows], place[rows], np.ones_like(rows), trie.depth[rows], 1, slots)
    return _split(whole, place[rows] // chunk_rows)


def _branches(trie: TokenTrie) -> np.ndarray:
    """The branch of every row."""
    return np.repeat(np.arange(len(trie.length)), trie.length)


def _lengths(first: np.ndarray, trie: TokenTrie) -> np.ndarray:
    """Of pieces of the trie's rows that begin at `first` each."""
    return np.diff(first, append=trie.num_rows)


def _changes(*columns: np.ndarray) -> np.ndarray:
    """Places, the first included, at which one of the columns has another value than before: [rows] bool."""
    changes = np.zeros(len(columns[0]), dtype=bool)
    for column in columns:
        changes[1:] |= column[1:] != column[:-1]
    changes[:1] = True
    return changes


def _runs(
    trie: TokenTrie,
    branch: np.ndarray,
    depth: np.ndarray,
    first_row: np.ndarray,
    rows: np.ndarray,
    run: np.ndarray,
    lanes: int,
) -> tuple[TileRun, ...]:
    """branch, depth (of the first row), first_row, rows, run: [tiles], in preorder."""
    columns = zip(*(column.tolist() for column in (branch, depth, first_row, rows, run)), strict=True)
    paths = enumerate(zip(trie.first_depth.tolist(), trie.slots(), strict=True))
    at, path, shared, last_run = -1, np.empty(0, dtype=np.int64), 0, -1
    found: list[tuple[dict[str, int], int]] = []
    pieces: list[np.ndarray] = []
    for one, own_depth, first, count, number in columns:
        while at < one:
            at, (first_depth, path) = next(paths)
            shared = min(shared, first_depth)
        fresh = shared if number == last_run else 0
        end = own_depth + count
        lane = own_depth % lanes
        keys = own_depth - lane + lanes
        pieces += [path[fresh:end].copy(), np.broadcast_to(path[:1], keys - end)]
        sizes = {"lane": lane, "lanes": lanes, "first_depth": own_depth - lane, "keys": keys, "fresh": fresh}
        found.append(({"first_row": first, "rows": count, **sizes}, number))
        shared, last_run = end, number
    slots = torch.from_numpy(np.concatenate(pieces)).split([tile["keys"] - tile["fresh"] for tile, _ in found])
    tiles: list[list[Tile]] = [[] for _ in range(last_run + 1)]
    for (tile, number), own in zip(found, slots, strict=True):
        tiles[number].append(Tile(slots=own, **tile))
    return tuple(TileRun(tuple(members)) for members in tiles)


def _path_slots(trie: TokenTrie) -> torch.Tensor:
    """Every branch's path, one after the other."""
    ends = np.cumsum(trie.first_depth + trie.length)
    # Kernels read offsets into this list, rows and slots as int32; no row or slot is greater than the list is long.
    assert ends[-1] <= MOST_SLOTS, (
        f"{len(ends):,} branches list {ends[-1]:,} slots of K/V, {MOST_SLOTS:,} are the limit; use fewer batch tokens"
    )
    slots = np.empty(ends[-1], dtype=np.int32)
    for end, path in zip(ends.tolist(), trie.slots(), strict=True):
        slots[end - len(path) : end] = path
    return torch.from_numpy(slots)


def _path_tiles(
    trie: TokenTrie,
    branch: np.ndarray,
    first_row: np.ndarray,
    rows: np.ndarray,
    depth: np.ndarray,
    max_rows: int,
    slots: torch.Tensor,
) -> PathTiles:
    """branch, first_row, rows, depth: [tiles]."""
    keys = trie.first_depth + trie.length
    path = np.cumsum(keys) - keys
    own_row, own_rows, own_depth, own_path = (
        torch.from_numpy(column.astype(np.int32)) for column in (first_row, rows, depth, path[branch])
    )
    return PathTiles(own_row, own_rows, own_depth, own_path, slots, max_rows)


def _deepest_first(tiles: PathTiles) -> PathTiles:
    return _chosen(tiles, torch.argsort(tiles.first_depth, descending=True, stable=True))


def _split(tiles: PathTiles, chunk: np.ndarray) -> tuple[PathTiles, ...]:
    """chunk: [tiles], ascending, no number left out."""
    bounds = [*np.flatnonzero(_changes(chunk)).tolist(), len(chunk)]
    return tuple(_chosen(tiles, slice(*bound)) for bound in pairwise(bounds))


def _chosen(tiles: PathTiles, chosen: torch.Tensor | slice) -> PathTiles:
    return replace(
        tiles,
        first_row=tiles.first_row[chosen],
        num_rows=tiles.num_rows[chosen],
        first_depth=tiles.first_depth[chosen],
        path=tiles.path[chosen],
    )
