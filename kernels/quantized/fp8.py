"""Linear layers in fp8 (e4m3): weights with a scale for each output, activations with a scale for each row.

The largest number of a row becomes 448, the largest that e4m3 has (Micikevicius et al., 2022, FP8 Formats for Deep
Learning). A row's bits do not depend on other rows: a maximum has no order. Here in plain torch, for weights
everywhere, and for products on a CPU, where they are an emulation: as exact as a GPU's, and slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

FP8 = torch.float8_e4m3fn
LARGEST = 448.0
# Scales below would leave float32's normal range, where a GPU may count them as zero.
LEAST = LARGEST * torch.finfo(torch.float32).tiny
# Rows of an emulated product: its sums may depend on their number.
_ROWS = 128


class Fp8Rows(NamedTuple):
    """Rows of activations or of weights; levels * scale is what they stand for, about.

    Attributes:
        levels: [rows, in] float8_e4m3fn, contiguous.
        scale: [rows] float32.
        dtype: that activations had, and a product of them has.
    """

    levels: torch.Tensor
    scale: torch.Tensor
    dtype: torch.dtype = torch.bfloat16


@dataclass(frozen=True)
class Fp8Linear:
    """A linear layer.

    Attributes:
        weight: a row for each output.
        bias: [out] or None.
    """

    weight: Fp8Rows
    bias: torch.Tensor | None

    def part(self, outputs: slice) -> Fp8Linear:
        """A view of some outputs."""
        weight = Fp8Rows(self.weight.levels[outputs], self.weight.scale[outputs])
        return Fp8Linear(weight, None if self.bias is None else self.bias[outputs])


def quantize_rows(x: torch.Tensor) -> Fp8Rows:
    """x [rows, in]. Infinity and NaN make NaN of what they are multiplied with."""
    wide = x.float()
    largest = wide.abs().amax(1).clamp_(min=LEAST)
    # Not a division by the scale: a GPU multiplies at several times the rate.
    levels = (wide * (LARGEST / largest).unsqueeze(1)).to(FP8)
    return Fp8Rows(levels, largest / LARGEST, x.dtype)


def pack_fp8(weight: torch.Tensor | Fp8Rows, bias: torch.Tensor | None = None) -> Fp8Linear:
    """Prepare weight [out, in] and bias [out]. A weight that is quantised already stays as it is."""
    return Fp8Linear(weight if isinstance(weight, Fp8Rows) else quantize_rows(weight), bias)


def emulated_linear(x: torch.Tensor, packed: Fp8Linear) -> torch.Tensor:
    """x [rows, in] times the transposed weight, plus the bias: [rows, out] float32, sums in float32."""
    rows, weight = quantize_rows(x), packed.weight.levels.float()
    blocks = rows.levels.float().split(_ROWS)
    sums = torch.cat([_padded_product(block, weight) for block in blocks])
    out = sums.mul_(rows.scale.unsqueeze(1)).mul_(packed.weight.scale)
    return out if packed.bias is None else out.add_(packed.bias)


def _padded_product(block: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    missing = _ROWS - len(block)
    return F.linear(F.pad(block, (0, 0, 0, missing)) if missing else block, weight)[: len(block)]
