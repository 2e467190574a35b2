"""Linear layers on a CPU, through oneDNN where torch has it.

A row's bits do not depend on the rows beside it as long as a product has the same number of rows and one thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from preftree.kernels.cpu.elementwise import clamped_swiglu, geglu, swiglu
from preftree.kernels.quantized.fp8 import Fp8Linear, Fp8Rows, emulated_linear, pack_fp8
from preftree.kernels.quantized.int8 import QuantizedLinear, pack_quantized, quantized_linear
from preftree.kernels.quantized.types import Quantized
from preftree.kernels.tiles import Activation

# Rows that a thread takes through a layer: their activations stay in its core's cache. In float32, linear layers reach
# 95% of their rate at 128 rows; products of 16 bits are done sooner, and want more rows a call.
ROW_BLOCK = 128
SHORT_ROW_BLOCK = 256

_ONEDNN_RUNS: dict[torch.dtype, Callable[[], bool]] = {
    torch.float32: lambda: True,
    # Looked up when called: a torch build without oneDNN has neither.
    torch.bfloat16: lambda: torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    torch.float16: lambda: torch.ops.mkldnn._is_mkldnn_fp16_supported(),
}
# What follows a product while its result is in registers: oneDNN's name, arguments and algorithm, where it has one.
_EPILOGUES: dict[Activation, tuple[str, list[float], str]] = {
    "silu": ("swish", [], ""),
    "gelu_tanh": ("gelu", [], "tanh"),
}
_PRODUCTS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": swiglu,
    "gelu_tanh": geglu,
    "clamped_silu": clamped_swiglu,
}


@dataclass(frozen=True)
class PackedLinear:
    """A weight matrix in the layout that its library reads fastest. Made by `pack_linear`."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    out_features: int
    is_onednn: bool


@dataclass(frozen=True)
class PackedGate:
    """Gate and up of an MLP, apart. Made by `pack_gated`."""

    gate: PackedLinear
    up: PackedLinear


def pack_linear(
    weight: torch.Tensor | Fp8Rows, bias: torch.Tensor | None = None, quantized: Quantized | None = None
) -> PackedLinear | QuantizedLinear | Fp8Linear:
    """Prepare `weight` [out, in] and, where there is one, `bias` [out] for `linear`. quantized: to this type."""
    if isinstance(weight, Fp8Rows) or quantized == "fp8":
        return pack_fp8(weight, bias)
    if quantized == "int8":
        return pack_quantized(weight, bias, SHORT_ROW_BLOCK)
    return pack_plain(weight, bias)


def pack_plain(weight: torch.Tensor, bias: torch.Tensor | None = None) -> PackedLinear:
    """`pack_linear`, in the type that the weight has.

    oneDNN's packed weights ran 1.3 to 1.5 times as fast as MKL's on plain ones (float32, AVX-512). Where oneDNN or
    its instructions for the dtype are missing, plain ones serve.
    """
    if torch.backends.mkldnn.is_available() and _ONEDNN_RUNS[weight.dtype]():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
        return PackedLinear(packed, bias, weight.shape[0], is_onednn=True)
    return PackedLinear(weight.contiguous(), bias, weight.shape[0], is_onednn=False)


def linear(
    x: torch.Tensor, packed: PackedLinear | QuantizedLinear | Fp8Linear, row_block: int | None = None
) -> torch.Tensor:
    """x [rows, in] times the transposed weight, plus the bias: [rows, out].

    row_block: rows of one matrix product, on which a row's bits may depend; None for all at once.
    """
    if row_block is not None and len(x) != row_block:
        return torch.cat([linear(block, packed) for block in x.split(row_block)])
    if isinstance(packed, QuantizedLinear | Fp8Linear):
        return _in_8_bits(x, packed).to(x.dtype)
    if packed.is_onednn:
        return torch.ops.mkldnn._linear_pointwise(x, packed.weight, packed.bias, "none", [], None)
    return F.linear(x, packed.weight, packed.bias)


def add_linear(
    residual: torch.Tensor,
    x: torch.Tensor,
    packed: PackedLinear | QuantizedLinear | Fp8Linear,
    row_block: int | None = None,
    factor: float = 1.0,
) -> torch.Tensor:
    """factor * `linear`, to be added to `residual` [rows, out] by the norm that follows.

    A chunk's update is still in the core's cache there, and the norm adds while it reads.
    """
    update = linear(x, packed, row_block)
    return update if factor == 1 else update.mul_(factor)


def pack_gated(
    weight: torch.Tensor | Fp8Rows, bias: torch.Tensor | None = None, quantized: Quantized | None = None
) -> PackedGate | PackedLinear | QuantizedLinear | Fp8Linear:
    """Prepare gate and up, one below the other [2 * width, in], for `gated`. quantized: as in `pack_linear`.

    In 16 bits oneDNN multiplies them apart, so that activation and product need no pass over the memory of their own;
    they also see float32 sums instead of rounded ones.
    """
    if isinstance(weight, Fp8Rows) or quantized or weight.dtype == torch.float32:
        return pack_linear(weight, bias, quantized)
    gate, up = weight.chunk(2)
    gate_bias, up_bias = (None, None) if bias is None else bias.chunk(2)
    halves = pack_plain(gate, gate_bias), pack_plain(up, up_bias)
    return PackedGate(*halves) if halves[0].is_onednn else pack_plain(weight, bias)


def gated(
    x: torch.Tensor,
    packed: PackedGate | PackedLinear | QuantizedLinear | Fp8Linear,
    activation: Activation,
    row_block: int | None = None,
) -> torch.Tensor:
    """activation(x gate) * (x up): [rows, width]. row_block: as in `linear`. "clamped_silu": see `clamped_swiglu`."""
    if isinstance(packed, QuantizedLinear | Fp8Linear):
        return _PRODUCTS[activation](_in_8_bits(x, packed)).to(x.dtype)
    if isinstance(packed, PackedLinear):
        return _PRODUCTS[activation](linear(x, packed, row_block))
    if row_block is not None and len(x) != row_block:
        return torch.cat([gated(block, packed, activation) for block in x.split(row_block)])
    gate, up = packed.gate, packed.up
    if activation not in _EPILOGUES:
        return _PRODUCTS[activation](torch.cat([linear(x, gate), linear(x, up)], -1))
    name, arguments, algorithm = _EPILOGUES[activation]
    activated = torch.ops.mkldnn._linear_pointwise(x, gate.weight, gate.bias, name, arguments, algorithm)
    return torch.ops.mkldnn._linear_pointwise.binary(x, activated, up.weight, up.bias, "mul")


def _in_8_bits(x: torch.Tensor, packed: QuantizedLinear | Fp8Linear) -> torch.Tensor:
    """[rows, out] float32."""
    return emulated_linear(x, packed) if isinstance(packed, Fp8Linear) else quantized_linear(x, packed)
