"""The format "mxfp4", as gpt-oss ships it: the experts' matrices in blocks of 32 numbers of 4 bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from preftree.engine.errors import ModelError
from preftree.engine.weights.quantized.scheme import Format, Scheme, Stored

BLOCKS, SCALES = "_blocks", "_scales"
_WIDTH = 32
# e2m1: a sign, two bits of exponent, one of mantissa.
_POSITIVE = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_VALUES = (*_POSITIVE, *(-value for value in _POSITIVE))
# e8m0: an exponent of 2, 127 more than it means; the last is not a number.
_POWERS = (*(2.0 ** (exponent - 127) for exponent in range(255)), float("nan"))


def read_mxfp4(fields: Mapping[str, Any]) -> Format:
    """No settings matter."""
    scheme: Scheme = Mxfp4()
    return Format(lambda module: scheme)


@dataclass(frozen=True)
class Mxfp4:
    """A stack of matrices [experts, columns, rows], as the model has it unquantised: transposed.

    Stored are `X_blocks` uint8 [experts, rows, groups, 16], the first number of a byte in its low half, and `X_scales`
    uint8 [experts, rows, groups].
    """

    @property
    def title(self) -> str:
        return "MXFP4"

    @property
    def required(self) -> tuple[str, ...]:
        return (BLOCKS, SCALES)

    @property
    def optional(self) -> tuple[str, ...]:
        return ()

    def check(self, stored: Mapping[str, Stored], shape: tuple[int, ...]) -> None:
        if len(shape) != 3:
            raise ModelError(f"{BLOCKS} of a matrix of shape {shape}; preftree reads them of stacked experts only")
        experts, columns, rows = shape
        if columns % _WIDTH:
            raise ModelError(f"its {columns:,} columns are no multiple of {_WIDTH}, the size of a block")
        grid = (experts, rows, columns // _WIDTH)
        for suffix, wanted in ((BLOCKS, (*grid, _WIDTH // 2)), (SCALES, grid)):
            if stored[suffix] != ("U8", wanted):
                dtype, actual = stored[suffix]
                raise ModelError(
                    f"{suffix} is {dtype} of shape {actual}, but the configuration asks for U8 of shape {wanted}"
                )

    def dequantized(
        self, parts: Mapping[str, torch.Tensor], shape: tuple[int, ...], first: int, last: int
    ) -> torch.Tensor:
        blocks, scales = parts[BLOCKS], parts[SCALES]
        pairs = torch.tensor([[_VALUES[byte & 15], _VALUES[byte >> 4]] for byte in range(256)], device=blocks.device)
        powers = torch.tensor(_POWERS, device=blocks.device)
        stack = torch.empty(last - first, *shape[1:], device=blocks.device)
        for expert in range(first, last):
            values = pairs.index_select(0, blocks[expert].flatten().int()).view(*scales.shape[1:], _WIDTH)
            values *= powers.index_select(0, scales[expert].flatten().int()).view(*scales.shape[1:], 1)
            stack[expert - first] = values.flatten(1).T
        return stack
