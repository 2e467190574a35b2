"""A batch, frozen: its trie as tensors, the tiles of its attention, and the rows that end in a label.

Built on the host in NumPy, turned into tensors once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from preftree.engine.planning.tiling import (
    by_height,
    chunk_path_tiles,
    final_chunk_path_tiles,
    final_path_tiles,
    final_tile_runs,
    path_tiles,
    tile_runs,
)
from preftree.engine.planning.trie import TokenTrie
from preftree.kernels.tiles import Move, PathTiles, PlanLayout, Tiles, round_up


@dataclass(frozen=True)
class Plan:
    """What the forward pass reads.

    tokens, depths: [padded rows] int64; rows beyond num_rows fill the last block and influence nothing.
    prefix: K/V slots 0 to prefix - 1 hold the prefix cache; row r writes slot prefix + r.
    tiles: attention tiles of all rows. final_rows: [padded finals] int64, the rows whose logits are wanted.
    final_tiles: attention tiles of the last layer, whose rows are places in final_rows.
    chunk_rows: rows that go through the layers together, where the layout has chunks.
    rope_variant: what the rotary embeddings of all rows are made for, see `RopeConfig.rope_variant`.
    """

    tokens: torch.Tensor
    depths: torch.Tensor
    num_rows: int
    prefix: int
    tiles: Tiles
    final_rows: torch.Tensor
    num_finals: int
    final_tiles: Tiles
    chunk_rows: int
    rope_variant: int = 0

    @property
    def num_slots(self) -> int:
        return self.prefix + len(self.tokens)

    def moved(self, move: Move) -> Plan:
        """The same plan with `move` applied to all its tensors, once to each."""
        once: dict[int, torch.Tensor] = {}

        def moved(tensor: torch.Tensor) -> torch.Tensor:
            if id(tensor) not in once:
                once[id(tensor)] = move(tensor)
            return once[id(tensor)]

        return replace(
            self,
            tokens=moved(self.tokens),
            depths=moved(self.depths),
            tiles=moved_tiles(self.tiles, moved),
            final_rows=moved(self.final_rows),
            final_tiles=moved_tiles(self.final_tiles, moved),
        )


def build_plan(trie: TokenTrie, layout: PlanLayout, rope_variant: int = 0) -> Plan:
    """Freeze `trie`, whose sequences are all of one `rope_variant`. The final rows are its sequences' distinct ones, in
    ascending order."""
    finals = np.unique(trie.final_row)
    place = np.full(trie.num_rows, -1)
    place[finals] = np.arange(len(finals))
    padded = round_up(trie.num_rows, layout.row_block)
    padded_finals = round_up(len(finals), layout.final_row_block)
    chunk_rows = layout.chunk_rows_of(trie.num_rows)
    tiles: Tiles
    final_tiles: Tiles
    if layout.tiles == "runs":
        tiles = tile_runs(trie, layout.tile_rows, chunk_rows)
        final_tiles = final_tile_runs(trie, place, layout.tile_rows, layout.final_row_block)
    elif layout.in_chunks:
        tiles = chunk_path_tiles(trie, chunk_rows)
        final_tiles = final_chunk_path_tiles(trie, place, layout.final_row_block, tiles[0].slots)
    else:
        whole = path_tiles(trie, layout.tile_rows)
        tiles = by_height(whole, layout.low_tile_rows) if layout.low_tile_rows else whole
        final_tiles = final_path_tiles(trie, place, whole.slots)
    return Plan(
        tokens=torch.from_numpy(np.pad(trie.token, (0, padded - trie.num_rows))),
        depths=torch.from_numpy(np.pad(trie.depth, (0, padded - trie.num_rows))),
        num_rows=trie.num_rows,
        prefix=trie.skipped,
        tiles=tiles,
        final_rows=torch.from_numpy(np.pad(finals, (0, padded_finals - len(finals)))),
        num_finals=len(finals),
        chunk_rows=chunk_rows,
        final_tiles=final_tiles,
        rope_variant=rope_variant,
    )


def moved_tiles(tiles: Tiles, move: Move) -> Tiles:
    """The same tiles with `move` applied to their tensors."""
    return tiles.moved(move) if isinstance(tiles, PathTiles) else tuple(group.moved(move) for group in tiles)
