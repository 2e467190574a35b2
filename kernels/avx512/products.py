"""Linear layers in 16 and 8 bits: what follows a product happens while the next one runs.

A row's bits do not depend on the number of rows, as they may in oneDNN, so few rows need little padding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from preftree.kernels import cpu
from preftree.kernels.avx512.library import address, loaded, prefers_amx
from preftree.kernels.cpu import Activation, PackedGate, PackedLinear
from preftree.kernels.quantized.fp8 import Fp8Linear, Fp8Rows
from preftree.kernels.quantized.int8 import ROTATED, ZERO_POINT, QuantizedLinear, quantize_weight
from preftree.kernels.quantized.types import Quantized

# Outputs of a panel, and bytes that 16 terms of a sum have with each other in a column of it.
_COLUMNS = 16
_GROUP_BYTES = 4
# Rows of a product in 16 bits, and terms of its sums: it takes multiples of both.
_ROWS = _TERMS = 32
_ACTIVATIONS: dict[Activation | None, int] = {None: 0, "silu": 1, "gelu_tanh": 2, "clamped_silu": 3}


Packed = PackedLinear | QuantizedLinear | Fp8Linear


@dataclass(frozen=True)
class Panels:
    """A weight matrix as `multiply` of products.cpp reads it.

    Attributes:
        weight: [out / 16, in / terms, 16, 16, group], bfloat16 or int8, padded with zeros.
        bias: [out] float32 or None.
        inputs: of a row.
        outputs: both halves of a gate, sixteen of each in turns.
        step: [out] float32, what int8 weights are to be multiplied with; None for bfloat16.
        offset: [out] int32, 128 times the sum of an output's int8 weights.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    inputs: int
    outputs: int
    step: torch.Tensor | None = None
    offset: torch.Tensor | None = None


def pack_linear(
    weight: torch.Tensor | Fp8Rows, bias: torch.Tensor | None = None, quantized: Quantized | None = None
) -> Packed | Panels:
    """`kernels.cpu.pack_linear`. Rows of odd lengths, and fp8, are left to it."""
    if isinstance(weight, Fp8Rows) or quantized == "fp8":
        return cpu.pack_linear(weight, bias, quantized)
    if quantized == "int8":
        return _quantized_panels(weight, bias)
    return _panels(weight, bias) if weight.shape[1] % _TERMS == 0 else cpu.pack_linear(weight, bias)


def pack_gated(
    weight: torch.Tensor | Fp8Rows, bias: torch.Tensor | None = None, quantized: Quantized | None = None
) -> PackedGate | Packed | Panels:
    """`kernels.cpu.pack_gated`. Odd widths, and fp8, are left to it."""
    if isinstance(weight, Fp8Rows) or quantized == "fp8":
        return cpu.pack_gated(weight, bias, quantized)
    if len(weight) % (2 * _COLUMNS) or not (quantized or weight.shape[1] % _TERMS == 0):
        return cpu.pack_gated(weight, bias, quantized)
    in_turns = _in_turns(weight), None if bias is None else _in_turns(bias)
    return _quantized_panels(*in_turns) if quantized else _panels(*in_turns)


def linear(x: torch.Tensor, packed: Packed | Panels, row_block: int | None = None) -> torch.Tensor:
    """`kernels.cpu.linear`."""
    return _multiply(x, packed, None) if isinstance(packed, Panels) else cpu.linear(x, packed, row_block)


def add_linear(
    residual: torch.Tensor,
    x: torch.Tensor,
    packed: Packed | Panels,
    row_block: int | None = None,
    factor: float = 1.0,
) -> torch.Tensor:
    """`kernels.cpu.add_linear`."""
    update = linear(x, packed, row_block)
    return update if factor == 1 else update.mul_(factor)


def gated(
    x: torch.Tensor,
    packed: PackedGate | Packed | Panels,
    activation: Activation,
    row_block: int | None = None,
) -> torch.Tensor:
    """`kernels.cpu.gated`."""
    if isinstance(packed, Panels):
        return _multiply(x, packed, activation)
    return cpu.gated(x, packed, activation, row_block)


def _multiply(x: torch.Tensor, packed: Panels, activation: Activation | None) -> torch.Tensor:
    out = x.new_empty(len(x), packed.outputs // 2 if activation else packed.outputs)
    after = packed.outputs, _ACTIVATIONS[activation], address(out)
    rows, weight, bias = (prefers_amx(), address(x), *x.shape), address(packed.weight), address(packed.bias)
    if packed.step is None:
        assert len(x) % _ROWS == 0, f"{len(x)} rows"
        loaded().preftree_multiply_16(*rows, weight, bias, *after)
    else:
        scales = address(packed.step), address(packed.offset)
        loaded().preftree_multiply_8(*rows, packed.inputs % ROTATED == 0, weight, *scales, bias, *after)
    return out


def _panels(weight: torch.Tensor, bias: torch.Tensor | None) -> Panels:
    outputs, inputs = weight.shape
    return Panels(_in_panels(weight), None if bias is None else bias.float(), inputs, outputs)


def _quantized_panels(weight: torch.Tensor, bias: torch.Tensor | None) -> Panels:
    levels, step = quantize_weight(weight)
    padding = (0, -len(weight) % (2 * _COLUMNS))
    offset = ZERO_POINT * levels.sum(1, dtype=torch.int32)
    return replace(_panels(levels, bias), step=F.pad(step, padding), offset=F.pad(offset, padding))


def _in_panels(weight: torch.Tensor) -> torch.Tensor:
    """weight [out, in] as `Panels.weight`. Its memory begins at a multiple of 64 bytes."""
    group = _GROUP_BYTES // weight.itemsize
    terms = 16 * group
    padded = F.pad(weight, (0, -weight.shape[1] % terms, 0, -weight.shape[0] % (2 * _COLUMNS)))
    panels = padded.view(len(padded) // _COLUMNS, _COLUMNS, -1, 16, group).permute(0, 2, 3, 1, 4).contiguous()
    assert panels.data_ptr() % 64 == 0
    return panels


def _in_turns(gate_up: torch.Tensor) -> torch.Tensor:
    """Gate and up, one below the other, as sixteen rows of each in turns."""
    shape = gate_up.shape
    return gate_up.view(2, -1, _COLUMNS, *shape[1:]).transpose(0, 1).reshape(shape)
