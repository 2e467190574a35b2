"""Matrices with one stored number for each of theirs, in 8 bits, and scales beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from preftree.engine.errors import ModelError
from preftree.engine.weights.quantized.blocks import SCALE_TYPES, Blocks
from preftree.engine.weights.quantized.scheme import Stored
from preftree.kernels.quantized.fp8 import FP8 as FP8_TYPE
from preftree.kernels.quantized.fp8 import Fp8Rows

WEIGHT, ZERO_POINT = ".weight", ".weight_zero_point"
FP8, INT8 = ("F8_E4M3", "F8_E5M2"), ("I8",)


@dataclass(frozen=True)
class Scaled:
    """A stored number less its zero point, times its scale.

    Attributes:
        kind: "fp8" or "int8".
        blocks: what shares a scale.
        scales: suffixes that the scales may have; exactly one has to be there.
        has_zero_points: whether there has to be a zero point for each scale.
        has_exponents: scales stored as bytes are exponents of 2, 127 more than they mean.
    """

    kind: str
    blocks: Blocks
    scales: tuple[str, ...] = (".weight_scale",)
    has_zero_points: bool = False
    has_exponents: bool = False

    @property
    def title(self) -> str:
        return f"{self.kind} {self.blocks.title}"

    @property
    def required(self) -> tuple[str, ...]:
        return (WEIGHT, ZERO_POINT) if self.has_zero_points else (WEIGHT,)

    @property
    def optional(self) -> tuple[str, ...]:
        """Early checkpoints have zero points, all of them 0, where none are asked for."""
        return (*self.scales, ZERO_POINT) if self.kind == "int8" else self.scales

    def check(self, stored: Mapping[str, Stored], shape: tuple[int, ...]) -> None:
        types = FP8 if self.kind == "fp8" else INT8
        weight = stored[WEIGHT]
        if weight.dtype not in types:
            raise ModelError(f"{WEIGHT} is stored as {weight.dtype}, but {self.title} is {' or '.join(types)}")
        if weight.shape != shape:
            raise ModelError(f"{WEIGHT} has shape {weight.shape}, but the model's configuration asks for {shape}")
        found = [suffix for suffix in self.scales if suffix in stored]
        if len(found) != 1:
            what = "are both there" if found else "is missing"
            raise ModelError(f"{' and '.join(found or self.scales[:1])} {what}; download the model again")
        exponents = ("U8",) if self.has_exponents else ()
        self.blocks.check(stored[found[0]], found[0], shape, (*SCALE_TYPES, *exponents))
        if ZERO_POINT in stored:
            self.blocks.check(stored[ZERO_POINT], ZERO_POINT, shape, INT8)

    def dequantized(
        self, parts: Mapping[str, torch.Tensor], shape: tuple[int, ...], first: int, last: int
    ) -> torch.Tensor:
        values = parts[WEIGHT][first:last].float()
        if ZERO_POINT in parts:
            values -= self.blocks.spread(parts[ZERO_POINT], shape, first, last)
        return values.mul_(self.blocks.spread(self._scale(parts), shape, first, last))

    def fp8_rows(self, parts: Mapping[str, torch.Tensor], shape: tuple[int, ...]) -> Fp8Rows | None:
        """The whole matrix as it is stored; None unless that is e4m3 with one scale for each row, or for all of them.

        parts: as in `dequantized`; levels are the stored tensor itself.
        """
        levels = parts[WEIGHT]
        if levels.dtype != FP8_TYPE or self.blocks.width is not None or self.blocks.height not in (None, 1):
            return None
        scale = self.blocks.spread(self._scale(parts), shape, 0, shape[0])
        return Fp8Rows(levels, scale.expand(-1, 1).flatten().contiguous())

    def _scale(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
        scale = next(parts[suffix] for suffix in self.scales if suffix in parts)
        return scale.view(torch.float8_e8m0fnu) if scale.dtype == torch.uint8 else scale
