"""Matrices whose numbers of a few bits share words of 32, as compressed-tensors packs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from preftree.engine.errors import ModelError
from preftree.engine.weights.quantized.blocks import Blocks
from preftree.engine.weights.quantized.scheme import Stored
from preftree.engine.weights.quantized.words import unpacked

PACKED, SCALE, SHAPE, ZERO_POINT = ".weight_packed", ".weight_scale", ".weight_shape", ".weight_zero_point"


@dataclass(frozen=True)
class Packed:
    """Words along the columns of the matrix; those of zero points along its rows.

    Attributes:
        bits: 2, 4 or 8: no number is in two words.
        blocks: what shares a scale: groups, channels or, without zero points, the whole matrix.
        has_zero_points: whether there is a zero point for each scale, packed as the matrix.
    """

    bits: int
    blocks: Blocks
    has_zero_points: bool = False

    @property
    def title(self) -> str:
        return f"{self.bits}-bit integers {self.blocks.title}"

    @property
    def required(self) -> tuple[str, ...]:
        return (PACKED, SCALE, ZERO_POINT) if self.has_zero_points else (PACKED, SCALE)

    @property
    def optional(self) -> tuple[str, ...]:
        """The shape is a tensor, too, but says nothing that the model's configuration does not."""
        return (SHAPE,)

    def check(self, stored: Mapping[str, Stored], shape: tuple[int, ...]) -> None:
        self.blocks.check(stored[SCALE], SCALE, shape)
        rows, columns = shape
        self._check_words(stored, PACKED, (rows, self._words(columns)))
        if self.has_zero_points:
            self._check_words(stored, ZERO_POINT, (self._words(rows), self.blocks.grid(shape)[1]))

    def _words(self, count: int) -> int:
        return -(-count * self.bits // 32)

    def _check_words(self, stored: Mapping[str, Stored], suffix: str, shape: tuple[int, int]) -> None:
        if stored[suffix] != ("I32", shape):
            dtype, actual = stored[suffix]
            raise ModelError(f"{suffix} is {dtype} of shape {actual}, but {self.title} ask for I32 of shape {shape}")

    def dequantized(
        self, parts: Mapping[str, torch.Tensor], shape: tuple[int, ...], first: int, last: int
    ) -> torch.Tensor:
        values = unpacked(parts[PACKED][first:last], self.bits, torch.float32)[:, : shape[1]]
        if self.has_zero_points:
            per_word = 32 // self.bits
            begin = first // per_word
            words = parts[ZERO_POINT][begin : -(-last // per_word)].T
            zeros = unpacked(words, self.bits, torch.uint8).T[first - begin * per_word : last - begin * per_word]
            # Rows are those of the slice already: one block downwards for each.
            values -= self.blocks.spread(zeros, (last - first, shape[1]), 0, last - first)
        else:
            values -= 1 << (self.bits - 1)
        return values.mul_(self.blocks.spread(parts[SCALE], shape, first, last))
