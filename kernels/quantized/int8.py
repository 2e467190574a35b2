"""Linear layers in 8 bits: int8 weights with a scale for each output, activations with a scale for each row.

Sums are int32, so they are exact: a row's bits do not depend on how a product is divided. Rows of activations and of
weights are rotated before they are quantized, which leaves their products as they are: a few large numbers in a row
would make all its steps long (Ashkboos et al., 2024, QuaRot). On a CPU, through oneDNN.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

LARGEST = 127
# Numbers that are rotated together; rows that it does not divide are not rotated.
ROTATED = 64
# oneDNN multiplies uint8 by int8 fast, and int8 by int8 a thousand times slower.
ZERO_POINT = 128


@dataclass(frozen=True)
class QuantizedLinear:
    """weight: int8, in oneDNN's layout. scale, zeros: [out] float32 and int32. bias: [out] float32 or None."""

    weight: torch.Tensor
    scale: torch.Tensor
    zeros: torch.Tensor
    bias: torch.Tensor | None


def rotated(x: torch.Tensor) -> torch.Tensor:
    """x [rows, in], float32, times a Hadamard matrix, block by block: an orthogonal matrix that is its own inverse."""
    if x.shape[1] % ROTATED:
        return x
    return (x.reshape(-1, ROTATED) @ _hadamard(x.device)).view(x.shape)


@functools.cache
def _hadamard(device: torch.device) -> torch.Tensor:
    """Sylvester's, [ROTATED, ROTATED] float32, orthonormal."""
    one = torch.ones(1, 1, device=device)
    while len(one) < ROTATED:
        one = torch.cat([torch.cat([one, one], 1), torch.cat([one, -one], 1)])
    return one / ROTATED**0.5


def quantize_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """weight [out, in] as int8 [out, in] and a scale for each output [out] float32: int8 * scale is the rotated weight,
    about."""
    wide = rotated(weight.float())
    scale = wide.abs().amax(1).clamp_(min=torch.finfo(torch.float32).tiny).div_(LARGEST)
    return (wide / scale.unsqueeze(1)).round_().clamp_(-LARGEST, LARGEST).to(torch.int8), scale


def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x [rows, in] as uint8 [rows, in] and a scale for each row [rows, 1] float32: (uint8 - 128) * scale is the rotated
    x, about."""
    wide = rotated(x.float())
    largest = wide.abs().amax(-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
    # Truncation of what is half a step higher rounds.
    levels = (wide * (LARGEST / largest)).add_(ZERO_POINT + 0.5)
    return levels.to(torch.uint8), largest.div_(LARGEST)


def pack_quantized(weight: torch.Tensor, bias: torch.Tensor | None, rows: int) -> QuantizedLinear:
    """Prepare weight [out, in] and bias [out] for `quantized_linear`. rows: of most products."""
    levels, scale = quantize_weight(weight)
    packed = torch.ops.onednn.qlinear_prepack(levels, [rows, weight.shape[1]])
    zeros = torch.zeros(len(scale), dtype=torch.int32)
    return QuantizedLinear(packed, scale, zeros, None if bias is None else bias.float())


def quantized_linear(x: torch.Tensor, packed: QuantizedLinear) -> torch.Tensor:
    """x [rows, in] times the transposed weight, plus the bias: [rows, out] float32."""
    levels, scale = quantize_rows(x)
    sums = torch.ops.onednn.qlinear_pointwise(
        levels, 1.0, ZERO_POINT, packed.weight, packed.scale, packed.zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    out: torch.Tensor = sums.mul_(scale)
    return out if packed.bias is None else out.add_(packed.bias)
