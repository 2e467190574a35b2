"""Branches cut into the tiles that the attention kernels walk. NumPy inside, tensors out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from engine.planning.trie import TokenTrie
from kernels.tiles import PathTiles, TileGroup


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
    """Every branch in tiles of up to `max_rows` rows, deepest first: the longest walks should not start last."""
    tiles, slots = [], []
    listed = 0
    for branch in _branches(trie):
        for first in range(0, branch.length, max_rows):
            rows = min(max_rows, branch.length - first)
            tiles.append((branch.start + first, rows, branch.first_depth + first, listed))
        slots.append(branch.slots)
        listed += len(branch.slots)
    return _path_tiles(tiles, slots, max_rows)


def final_path_tiles(trie: TokenTrie, place: np.ndarray) -> PathTiles:
    """A tile of one row for every row with a place in `place` [rows] (-1: none), whose query row is that place."""
    tiles, slots = [], []
    listed = 0
    for branch in _branches(trie):
        rows = branch.start + np.flatnonzero(place[branch.start : branch.start + branch.length] >= 0)
        tiles += [(int(place[row]), 1, int(trie.depth[row]), listed) for row in rows]
        if len(rows):
            slots.append(branch.slots)
            listed += len(branch.slots)
    return _path_tiles(tiles, slots, max_rows=1)


@dataclass(frozen=True)
class _Branch:
    """A branch of the trie with the K/V slot of every depth from 0 to its end."""

    start: int
    length: int
    first_depth: int
    slots: np.ndarray

    @property
    def end_depth(self) -> int:
        return self.first_depth + self.length


def _branches(trie: TokenTrie) -> Iterator[_Branch]:
    prefix_slots = np.arange(trie.skipped)
    for start, length, first_depth, path in zip(
        trie.start.tolist(), trie.length.tolist(), trie.first_depth.tolist(), trie.paths(), strict=True
    ):
        yield _Branch(start, length, first_depth, np.concatenate([prefix_slots, path + trie.skipped]))


def _path_tiles(tiles: list[tuple[int, int, int, int]], slots: list[np.ndarray], max_rows: int) -> PathTiles:
    tiles.sort(key=lambda tile: -tile[2])
    first_row, num_rows, first_depth, path = torch.tensor(tiles, dtype=torch.int32).reshape(-1, 4).T.contiguous()
    return PathTiles(
        first_row=first_row,
        num_rows=num_rows,
        first_depth=first_depth,
        path=path,
        slots=torch.from_numpy(np.concatenate(slots).astype(np.int32)),
        max_rows=max_rows,
    )
