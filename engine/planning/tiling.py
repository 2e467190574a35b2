"""Branches cut into the tiles that the attention kernels walk. NumPy inside, tensors out."""

from __future__ import annotations

import numpy as np
import torch

from preftree.engine.planning.trie import TokenTrie
from preftree.kernels.tiles import PathTiles, RunLayout, Tile, TileRun

MOST_SLOTS = 2**31 - 1


def tile_runs(trie: TokenTrie, lanes: int, layout: RunLayout, run_rows: int) -> tuple[TileRun, ...]:
    """Every branch in tiles of up to `lanes` rows, one run for every `run_rows` rows of the trie."""
    branch = np.repeat(np.arange(len(trie.length)), trie.length)
    row = np.arange(trie.num_rows)
    run = row // run_rows
    begins = _changes(branch, run)
    begin = row[begins][np.cumsum(begins) - 1]  # of the branch, or of what of it is in the run
    number = trie.depth // lanes if layout.aligned else (row - begin) // lanes
    first = np.flatnonzero(begins | _changes(number))
    rows = np.diff(first, append=trie.num_rows)
    return _runs(trie, branch[first], trie.depth[first], first, rows, run[first], lanes, layout)


def final_tile_runs(
    trie: TokenTrie, place: np.ndarray, lanes: int, layout: RunLayout, run_rows: int
) -> tuple[TileRun, ...]:
    """A tile for every row with a place in `place` [rows] (-1: none), one run for every `run_rows` places.

    Places ascend with rows.
    """
    rows = np.flatnonzero(place >= 0)
    branch = np.searchsorted(trie.start, rows, side="right") - 1
    run = place[rows] // run_rows
    return _runs(trie, branch, trie.depth[rows], place[rows], np.ones_like(rows), run, lanes, layout)


def path_tiles(trie: TokenTrie, max_rows: int) -> PathTiles:
    """Every branch in tiles of up to `max_rows` rows."""
    tiles_of = -(-trie.length // max_rows)
    branch = np.repeat(np.arange(len(tiles_of)), tiles_of)
    number = np.arange(len(branch)) - (np.cumsum(tiles_of) - tiles_of)[branch]  # of the tile in its branch
    first = max_rows * number
    rows = np.minimum(max_rows, trie.length[branch] - first)
    depth = trie.first_depth[branch] + first
    return _path_tiles(trie, branch, trie.start[branch] + first, rows, depth, max_rows, _path_slots(trie))


def final_path_tiles(trie: TokenTrie, place: np.ndarray, slots: torch.Tensor) -> PathTiles:
    """A tile of one row for every row with a place in `place` [rows] (-1: none), whose query row is that place.

    slots: those of `path_tiles` for the same trie.
    """
    rows = np.flatnonzero(place >= 0)
    branch = np.searchsorted(trie.start, rows, side="right") - 1
    return _path_tiles(trie, branch, place[rows], np.ones_like(rows), trie.depth[rows], 1, slots)


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
    layout: RunLayout,
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
        lane = own_depth % lanes if layout.aligned else 0
        # Half as high where that is enough: lanes that hold no row cost as much as others.
        height = lanes // 2 if not layout.aligned and count <= lanes // 2 else lanes
        keys = -(-(own_depth - lane + lanes if layout.aligned else end) // layout.keys) * layout.keys
        pieces += [path[fresh:end].copy(), np.broadcast_to(path[:1], keys - end)]
        sizes = {"lane": lane, "lanes": height, "first_depth": own_depth - lane, "keys": keys, "fresh": fresh}
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
    """branch, first_row, rows, depth: [tiles]. Deepest first: the longest walks should not start last."""
    keys = trie.first_depth + trie.length
    path = np.cumsum(keys) - keys
    order = np.argsort(-depth, kind="stable")

    def frozen(column: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(column[order].astype(np.int32))

    return PathTiles(
        first_row=frozen(first_row),
        num_rows=frozen(rows),
        first_depth=frozen(depth),
        path=frozen(path[branch]),
        slots=slots,
        max_rows=max_rows,
    )
