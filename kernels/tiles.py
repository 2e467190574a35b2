"""What tree attention reads: tiles of query rows, and the K/V slots on the path above them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

# Of the gate in an MLP, which multiplies what goes up.
Activation = Literal["silu", "gelu_tanh", "clamped_silu"]
# Where a tensor goes: to another device, or into pinned memory.
Move = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class PlanLayout:
    """What an implementation asks of the planner and of the forward pass.

    Attributes:
        row_block: rows of a matrix product.
        final_row_block: rows of a matrix product over final rows only.
        tile_rows: query rows of an attention tile, per head.
        low_tile_rows: of a lower tile with the same bits, for branches that end in no more; 0 where there is none.
        tiles: which ones attention reads, `TileRun` or `PathTiles`.
        in_chunks: chunks of rows go through the layers one by one, on all cores at once; else layers take all rows
            together.
        step_block: rows of a matrix product over one new row of each sequence.
        chunk_blocks: matrix-product blocks whose rows pass through the element-wise operations together.
        batch_blocks: matrix-product blocks of a batch by default.
        threads: that take chunks at once.
        is_wide: residual stream, norms' weights and angles are float32, whatever the rest is.
    """

    row_block: int
    final_row_block: int
    tile_rows: int
    tiles: Literal["runs", "paths"] = "paths"
    in_chunks: bool = False
    step_block: int = 32
    chunk_blocks: int = 1
    batch_blocks: int = 16
    threads: int = 1
    is_wide: bool = False
    low_tile_rows: int = 0

    @property
    def chunk_rows(self) -> int:
        return self.row_block * self.chunk_blocks

    def chunk_rows_of(self, rows: int) -> int:
        """Rows of a chunk where a pass has `rows`: as few as give all threads as much to do, `chunk_rows` at most."""
        chunks = round_up(-(-rows // self.chunk_rows), self.threads)
        return min(self.chunk_rows, round_up(-(-rows // chunks), self.row_block))

    @property
    def kv_buffers(self) -> int:
        """K/V buffers that layers use in turns. A thread that works on a chunk of layer n + 1 writes K/V of layer n + 2
        while another is still at the end of layer n."""
        return 3 if self.in_chunks else 1


def round_up(value: int, multiple: int) -> int:
    """The least multiple that is not below `value`."""
    return -(-value // multiple) * multiple


@dataclass(frozen=True)
class Tile:
    """Consecutive query rows of one branch, and what they look at: the path from the root to the last of them.

    Attributes:
        first_row: of the queries.
        rows: how many.
        lane: of the first row. Lanes before it, and after the last row, are other rows, whose results are dropped.
        lanes: of the tile. The row at lane i has depth `first_depth` + i.
        first_depth: of lane 0.
        keys: on the path, those that fill it up included.
        fresh: first depth at which the path differs from that of the tile before.
        slots: [keys - fresh] int64, the K/V slot of every depth from there on; those beyond the path repeat depth 0.
    """

    first_row: int
    rows: int
    lane: int
    lanes: int
    first_depth: int
    keys: int
    fresh: int
    slots: torch.Tensor


@dataclass(frozen=True)
class TileRun:
    """Attention tiles of neighbouring rows in preorder: what one gathers serves those after it.

    They are cut at depths that are multiples of their height, so that a row has the same lane and looks at equally many
    keys whatever else is in the batch. For the operations in plain torch.
    """

    tiles: tuple[Tile, ...]
    _rows: list[TileRows] = field(default_factory=list, compare=False, repr=False)
    _of: list[torch.Tensor] = field(default_factory=list, compare=False, repr=False)

    def moved(self, move: Move) -> TileRun:
        return TileRun(tuple(replace(tile, slots=move(tile.slots)) for tile in self.tiles))

    def rows_of(
        self, queries: torch.Tensor, out: torch.Tensor, shaped: Callable[[torch.Tensor], torch.Tensor]
    ) -> list[TileRows]:
        """The rows of every tile in `shaped` views of `queries` and `out`.

        Made once: all layers of a pass ask for them.
        """
        if not self._of or self._of[0] is not queries or self._of[1] is not out:
            self._of[:] = queries, out
            wide, results = shaped(queries), shaped(out)
            self._rows[:] = [TileRows.of(tile, wide, results) for tile in self.tiles]
        return self._rows


@dataclass(frozen=True)
class TileRows:
    """Views for a tile. lanes: [num_lanes, ...] query rows from lane `first_lane` on, as many as there are.

    results: [tile.rows, ...].
    """

    tile: Tile
    first_lane: int
    num_lanes: int
    lanes: torch.Tensor
    results: torch.Tensor

    @classmethod
    def of(cls, tile: Tile, queries: torch.Tensor, out: torch.Tensor) -> TileRows:
        first = tile.first_row - tile.lane
        own = slice(max(0, first), min(first + tile.lanes, len(queries)))
        lanes = queries[own]
        return cls(tile, own.start - first, len(lanes), lanes, out[tile.first_row : tile.first_row + tile.rows])


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
    """Consecutive query rows of one branch each, and where the path above them is listed. For compiled kernels.

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


# Of one chunk of rows each, or of all.
Tiles = tuple[TileRun | StepGroup | PathTiles, ...] | PathTiles
