"""A batch, frozen: its trie as tensors, the tiles of its attention, and the rows that end in a label.

Built on the host in NumPy, turned into tensors once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engine.planning.trie import TokenTrie
from kernels.tiles import TileGroup


@dataclass(frozen=True)
class Plan:
    """What the forward pass reads.

    tokens, depths: [padded rows] int64; rows beyond num_rows fill the last block and influence nothing.
    prefix: K/V slots 0 to prefix - 1 hold the prefix cache; row r writes slot prefix + r.
    groups: attention tiles of all rows. final_rows: [padded finals] int64, the rows whose logits are wanted.
    final_groups: attention tiles of the last layer, whose rows are places in final_rows.
    """

    tokens: torch.Tensor
    depths: torch.Tensor
    num_rows: int
    prefix: int
    groups: tuple[TileGroup, ...]
    final_rows: torch.Tensor
    num_finals: int
    final_groups: tuple[TileGroup, ...]

    @property
    def num_slots(self) -> int:
        return self.prefix + len(self.tokens)


@dataclass(frozen=True)
class PlanLayout:
    """Sizes that the kernels ask for: rows per block of the linear layers, the same for final rows, lanes of a tile."""

    row_block: int
    final_row_block: int
    lanes: int


def build_plan(trie: TokenTrie, layout: PlanLayout) -> Plan:
    """Freeze `trie`. The final rows are its sequences' (`Plan.final_rows[i]` belongs to the i-th distinct one)."""
    finals = np.unique(trie.final_row)
    tiles = list(_cut_tiles(trie, layout.lanes))
    place = np.full(trie.num_rows, -1)
    place[finals] = np.arange(len(finals))
    final_tiles = [
        _Tile(tile.depth_block, np.where(tile.rows >= 0, place[tile.rows], -1), tile.slots) for tile in tiles
    ]
    padded = _round_up(trie.num_rows, layout.row_block)
    padded_finals = _round_up(len(finals), layout.final_row_block)
    return Plan(
        tokens=torch.from_numpy(np.pad(trie.token, (0, padded - trie.num_rows))),
        depths=torch.from_numpy(np.pad(trie.depth, (0, padded - trie.num_rows))),
        num_rows=trie.num_rows,
        prefix=trie.skipped,
        groups=_group(tiles, scratch=padded),
        final_rows=torch.from_numpy(np.pad(finals, (0, padded_finals - len(finals)))),
        num_finals=len(finals),
        final_groups=_group([tile for tile in final_tiles if (tile.rows >= 0).any()], scratch=padded_finals),
    )


@dataclass(frozen=True)
class _Tile:
    """depth_block: its rows lie at depths from depth_block * lanes. rows: [lanes], -1 for a lane without a row."""

    depth_block: int
    rows: np.ndarray
    slots: np.ndarray


def _cut_tiles(trie: TokenTrie, lanes: int) -> Iterable[_Tile]:
    """Cut every branch at absolute depths that are multiples of `lanes`."""
    prefix_slots = np.arange(trie.skipped)
    for start, length, first_depth, path in zip(trie.start, trie.length, trie.first_depth, trie.paths(), strict=True):
        slots = np.concatenate([prefix_slots, path + trie.skipped])
        end = first_depth + length
        for block in range(first_depth // lanes, -(-end // lanes)):
            depths = np.arange(block * lanes, (block + 1) * lanes)
            mine = (depths >= first_depth) & (depths < end)
            rows = np.where(mine, depths - first_depth + start, -1)
            keys = np.full((block + 1) * lanes, slots[0])
            keys[: min(len(slots), len(keys))] = slots[: len(keys)]
            yield _Tile(block, rows, keys)


def _group(tiles: Sequence[_Tile], scratch: int) -> tuple[TileGroup, ...]:
    """Stack tiles of one depth block; lanes without a row point at row `scratch`."""
    by_block: dict[int, list[_Tile]] = {}
    for tile in tiles:
        by_block.setdefault(tile.depth_block, []).append(tile)
    groups = []
    for _, members in sorted(by_block.items()):
        rows = np.stack([tile.rows for tile in members])
        slots = np.stack([tile.slots for tile in members])
        rows[rows < 0] = scratch
        groups.append(TileGroup(torch.from_numpy(rows), torch.from_numpy(slots)))
    return tuple(groups)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
