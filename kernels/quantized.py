"""Linear layers in 8 bits: int8 weights with a scale for each output, activations with a scale for each row.

Sums are int32, so they are exact: a row's bits do not depend on how a product is divided. On a CPU, through oneDNN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

LARGEST = 127
# oneDNN multiplies uint8 by int8 fast, and int8 by int8 a thousand times slower.
ZERO_POINT = 128


@dataclass(frozen=True)
class QuantizedLinear:
    """weight: int8, in oneDNN's layout. scale, zeros: [out] float32 and int32. bias: [out] float32 or None."""

    weight: torch.Tensor
    scale: torch.Tensor
    zeros: torch.Tensor
    bias: torch.Tensor | None


def quantize_weight(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """weight [out, in] as int8 [out, in] and a scale for each output [out] float32: weight = int8 * scale, about."""
    wide = weight.float()
    scale = wide.abs().amax(1).clamp_(min=torch.finfo(torch.float32).tiny).div_(LARGEST)
    return (wide / scale.unsqueeze(1)).round_().clamp_(-LARGEST, LARGEST).to(torch.int8), scale


def quantize_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x [rows, in] as uint8 [rows, in] and a scale for each row [rows, 1] float32: x = (uint8 - 128) * scale, about."""
    wide = x.float()
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
    out = sums_of(levels, packed).mul_(scale)
    return out if packed.bias is None else out.add_(packed.bias)


def sums_of(levels: torch.Tensor, packed: QuantizedLinear) -> torch.Tensor:
    """(levels - 128) times the transposed weight, without the bias: [rows, out] float32. levels: [rows, in] uint8."""
    sums: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
        levels, 1.0, ZERO_POINT, packed.weight, packed.scale, packed.zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return sums
