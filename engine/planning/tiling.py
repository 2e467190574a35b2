"""Branches cut into the tiles that the attention kernels walk. NumPy inside, tensors out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from preftree.engine.planning.trie import TokenTrie
from preftree.kernels.tiles import PathTiles, TileGroup

MOST_SLOTS = 2**31 - 1


def aligned_tiles(trie: TokenTrie, lanes: int, place: np.ndarray, scratch: int) -> tuple[TileGroup, ...]:
    """Tiles cut at absolute depths that are multiples of `lanes`, those of one block of depths stacked.

    place: [rows] the query row of each trie row, -1 for rows that ask nothing. Lanes without a row point at `scratch`.
    """
    by_block: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for branch in _branches(trie):
        for block in range(branch.first_depth // lanes, -(-branch.end_depth // lanes)):
            depths = np.arange(block * lanes, (block + 1) * lanes)
            mine = (depths >= branch.first_depth) & (depths < branch.end_depth)
            rows = np.full(lanes, -1)
            rows[mine] = place[depths[mine] - branch.first_depth + branch.start]
            if (rows < 0).all():
                continue
            slots = np.full((block + 1) * lanes, branch.slots[0])
            slots[: min(len(branch.slots), len(slots))] = branch.slots[: len(slots)]
            by_block.setdefault(block, []).append((np.where(rows < 0, scratch, rows), slots))
    groups = []
    for _, members in sorted(by_block.items()):
        rows, slots = (np.stack(arrays) for arrays in zip(*members, strict=True))
        groups.append(TileGroup(torch.from_numpy(rows), torch.from_numpy(slots)))
    return tuple(groups)


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


@dataclass(frozen=True)
class _Branch:
    """A branch of the trie with the K/V slot of every depth from 0 to its end, a view as of `TokenTrie.slots`."""

    start: int
    length: int
    first_depth: int
    slots: np.ndarray

    @property
    def end_depth(self) -> int:
        return self.first_depth + self.length


def _branches(trie: TokenTrie) -> Iterator[_Branch]:
    for start, length, first_depth, slots in zip(
        trie.start.tolist(), trie.length.tolist(), trie.first_depth.tolist(), trie.slots(), strict=True
    ):
        yield _Branch(start, length, first_depth, slots)


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
