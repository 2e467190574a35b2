"""What tree attention reads: tiles of query rows, and the K/V slots on the path above them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

# Where a tensor goes: to another device, or into pinned memory.
Move = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class PlanLayout:
    """What an implementation asks of the planner.

    Attributes:
        row_block: rows of a matrix product.
        final_row_block: rows of a matrix product over final rows only.
        tile_rows: query rows of an attention tile, per head.
        aligned: tiles are `TileGroup`s, cut at depths that are multiples of tile_rows; else they are `PathTiles`, cut
            wherever a branch begins.
        step_block: rows of a matrix product over one new row of each sequence.
        chunk_blocks: matrix-product blocks whose rows pass through the element-wise operations together.
        batch_blocks: matrix-product blocks of a batch by default.
    """

    row_block: int
    final_row_block: int
    tile_rows: int
    aligned: bool
    step_block: int = 32
    chunk_blocks: int = 1
    batch_blocks: int = 16


@dataclass(frozen=True)
class TileGroup:
    """Tiles of `lanes` query rows that lie in one block of depths, so that all of them look at equally many keys.

    A tile holds consecutive rows of one branch of the trie. The row at depth d sits at lane d mod lanes, and its
    tile lists the slots of depths 0, 1, 2, ... up to the end of that block of depths, whatever else is in the batch:
    a row's position in the arithmetic is a function of its depth alone, which keeps its result bit-exact.

    rows:  [tiles, lanes] int64, the query row at each lane. Lanes without a row point at a scratch row.
    slots: [tiles, keys] int64, K/V slot of depth 0, 1, ..., keys - 1; depths beyond the branch repeat that of depth 0.
           keys is a multiple of lanes, and the last `lanes` keys are the tile's own depths.
    """

    rows: torch.Tensor
    slots: torch.Tensor

    def moved(self, move: Move) -> TileGroup:
        return TileGroup(move(self.rows), move(self.slots))

    @property
    def lanes(self) -> int:
        return self.rows.shape[1]

    @property
    def keys(self) -> int:
        return self.slots.shape[1]


# Rows of the queries; slots: [rows, keys]; mask: [rows, 1, 1, keys].
StepPart = tuple[slice, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class StepGroup:
    """Single query rows that look at equally many keys: a decode step on the CPU.

    first_row: they are rows first_row, first_row + 1, ... of the queries. slots: [rows, keys] int64, the K/V slot of
    depth 0, 1, ..., keys - 1; those of depths beyond the row are there, but hidden by a mask. depth: [rows] int64, all
    among the last `span` of these depths. keys, a multiple of `span`, is a function of depth alone.
    """

    first_row: int
    slots: torch.Tensor
    depth: torch.Tensor
    span: int
    _parts: dict[tuple[int, int | None], list[StepPart]] = field(default_factory=dict, compare=False, repr=False)

    def moved(self, move: Move) -> StepGroup:
        return StepGroup(self.first_row, move(self.slots), move(self.depth), self.span)

    @property
    def keys(self) -> int:
        return self.slots.shape[1]

    def parts(self, begin: int, window: int | None, dtype: torch.dtype, most_keys: int) -> list[StepPart]:
        """Rows that look at no more than `most_keys` keys together, from depth `begin` on; one at least.

        Made once: all layers of a step ask for them. window: how many last tokens a row sees.
        """
        if (begin, window) not in self._parts:
            mask, at_once = self._mask(begin, window, dtype), max(1, most_keys // (self.keys - begin))
            self._parts[begin, window] = [
                (
                    slice(self.first_row + first, self.first_row + min(first + at_once, len(self.slots))),
                    self.slots[first : first + at_once, begin:].contiguous(),
                    mask[first : first + at_once],
                )
                for first in range(0, len(self.slots), at_once)
            ]
        return self._parts[begin, window]

    def _mask(self, begin: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
        """[rows, 1, 1, keys - begin], -inf where a key lies deeper than the row or before its window."""
        key, row = torch.arange(begin, self.keys), self.depth.unsqueeze(1)
        unseen = key > row if window is None else (key > row) | (key <= row - window)
        mask = torch.zeros(len(row), 1, 1, self.keys - begin, dtype=dtype)
        return mask.masked_fill_(unseen[:, None, None], float("-inf"))


@dataclass(frozen=True)
class PathTiles:
    """Tiles for the GPU: consecutive query rows of one branch, and where the path above them is listed.

    first_row, num_rows, first_depth: [tiles] int32. Row first_row + i of a tile has depth first_depth + i.
    path: [tiles] int32, the place in `slots` where the tile's path begins. slots: [...] int32; slots[path + d] is the
    K/V slot of depth d on the tile's path, for every d up to the depth of its last row.
    max_rows: no tile has more rows.
    """

    first_row: torch.Tensor
    num_rows: torch.Tensor
    first_depth: torch.Tensor
    path: torch.Tensor
    slots: torch.Tensor
    max_rows: int

    def moved(self, move: Move) -> PathTiles:
        return replace(
            self,
            first_row=move(self.first_row),
            num_rows=move(self.num_rows),
            first_depth=move(self.first_depth),
            path=move(self.path),
            slots=move(self.slots),
        )


Tiles = tuple[TileGroup | StepGroup, ...] | PathTiles
