"""Matrix products in one type, as the library runs them fastest: what a rate is measured with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch

from preftree.kernels import cpu
from preftree.kernels.quantized.int8 import ZERO_POINT, quantize_weight

Product = Callable[[torch.Tensor], torch.Tensor]
TYPES = ("float32", "bfloat16", "int8")


def products(weight: torch.Tensor, dtype: str) -> Mapping[str, Product]:
    """By name, the ways to multiply activations [rows, in] of type `dtype` with `weight` [out, in] float32.

    Args:
        dtype: one of `TYPES`. "int8": uint8 activations, int8 weights, and results in bfloat16.
    """
    if dtype == "int8":
        return {"oneDNN int8": _int8_product(weight)}
    weight = weight.to(getattr(torch, dtype))
    packed = cpu.pack_plain(weight)
    name = "oneDNN packed" if packed.is_onednn else "torch packed"
    return {name: lambda x: cpu.linear(x, packed), "torch.mm": lambda x: torch.mm(x, weight.T)}


def activations(values: torch.Tensor, dtype: str) -> torch.Tensor:
    """`values`, float32 between -0.5 and 0.5, as a product of `dtype` takes them."""
    if dtype == "int8":
        return (values * 255 + ZERO_POINT).clamp_(0, 255).to(torch.uint8)
    return values.to(getattr(torch, dtype))


def _int8_product(weight: torch.Tensor) -> Product:
    levels, scale = quantize_weight(weight)
    packed = torch.ops.onednn.qlinear_prepack(levels, None)
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    return partial(_multiply_int8, packed, scale, zeros)


def _multiply_int8(packed: torch.Tensor, scale: torch.Tensor, zeros: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
        x, 1 / 255, ZERO_POINT, packed, scale, zeros, None, 1.0, 0, torch.bfloat16, "none", [], ""
    )
    return result
