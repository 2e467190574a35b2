"""Which numbers of a matrix share one scale, and one zero point."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from preftree.engine.errors import ModelError
from preftree.engine.weights.quantized.scheme import Stored

SCALE_TYPES = ("F32", "F16", "BF16", "F8_E8M0")


@dataclass(frozen=True)
class Blocks:
    """Blocks of `height` rows by `width` columns; None: all of them.

    divide: a last block that is narrower than the others is an error.
    """

    height: int | None = None
    width: int | None = None
    divide: bool = False

    @property
    def title(self) -> str:
        if self.height is None and self.width is None:
            return "per tensor"
        if self.width is None:
            return "per channel"
        if self.height == 1:
            return f"in groups of {self.width}"
        return f"in blocks of {self.height} x {self.width}"

    def grid(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """How many blocks a matrix has, downwards and across.

        ModelError where they have to fit and do not, and for a stack of matrices.
        """
        if len(shape) != 2:
            raise ModelError(f"preftree reads a stack of matrices, here {shape}, from MXFP4 or unquantised files only")
        rows, columns = shape
        if self.divide and columns % (self.width or columns):
            raise ModelError(f"its {columns:,} columns are no multiple of the group size {self.width:,}")
        return -(-rows // (self.height or rows)), -(-columns // (self.width or columns))

    def check(self, stored: Stored, suffix: str, shape: tuple[int, ...], types: tuple[str, ...] = SCALE_TYPES) -> None:
        """ModelError unless there is one number of one of these types for each block of a matrix of this shape."""
        if stored.dtype not in types:
            raise ModelError(f"{suffix} is stored as {stored.dtype}; preftree reads {', '.join(types)}")
        grid = self.grid(shape)
        flat = {(grid[0],)} if grid[1] == 1 else set()
        if stored.shape not in {grid, *flat, *([()] if grid == (1, 1) else [])}:
            raise ModelError(f"{suffix} has shape {stored.shape}, but blocks of the matrix {shape} ask for {grid}")

    def spread(self, numbers: torch.Tensor, shape: tuple[int, ...], first: int, last: int) -> torch.Tensor:
        """The block's number for rows `first` to `last`, in float32, [last - first, columns or 1].

        numbers: one for each block, in any shape that `check` lets through.
        """
        rows, columns = shape
        grid = numbers.reshape(self.grid(shape))
        if self.height == 1:
            picked = grid[first:last].float()
        else:
            picked = grid.float()[torch.arange(first, last, device=grid.device) // (self.height or rows)]
        if picked.shape[1] == 1:
            return picked
        width = self.width or columns
        return picked[:, :, None].expand(-1, -1, width).reshape(last - first, -1)[:, :columns]
