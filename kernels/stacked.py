"""Linear layers of all experts of a mixture, one below the other: what grouped products on a GPU read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from preftree.kernels.quantized.fp8 import Fp8Rows, quantize_rows
from preftree.kernels.quantized.types import Quantized


@dataclass(frozen=True)
class StackedLinear:
    """One linear layer of every expert.

    Attributes:
        weight: [experts, out, in]; e4m3 levels where there are scales.
        bias: [experts, out] or None.
        scale: [experts, out] float32, of each output of a weight in fp8; else None.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    scale: torch.Tensor | None = None


@dataclass(frozen=True)
class Experts:
    """The MLPs of a mixture, as `expert_products` reads them. Made by `pack_experts`.

    Attributes:
        gate_up: outputs are [2 * width], gate first.
        down: from the width to the hidden size.
    """

    gate_up: StackedLinear
    down: StackedLinear


# Weight [out, in] and bias [out] or None of a linear layer.
Layer = tuple[torch.Tensor | Fp8Rows, torch.Tensor | None]


def pack_experts(
    gate_ups: Iterable[Layer], downs: Iterable[Layer], count: int, quantized: Quantized | None = None
) -> Experts:
    """Stack the layers of `count` experts, which are taken one at a time.

    gate_ups: gate and up, one below the other. quantized: to this type; a GPU has "fp8".
    """
    return Experts(_stacked(gate_ups, count, quantized), _stacked(downs, count, quantized))


def _stacked(layers: Iterable[Layer], count: int, quantized: Quantized | None) -> StackedLinear:
    stacks: dict[str, torch.Tensor] = {}
    for expert, layer in enumerate(layers):
        for name, tensor in _parts(layer, quantized).items():
            if expert == 0:
                stacks[name] = tensor.new_empty(count, *tensor.shape)
            stacks[name][expert] = tensor
    return StackedLinear(stacks["weight"], stacks.get("bias"), stacks.get("scale"))


def _parts(layer: Layer, quantized: Quantized | None) -> dict[str, torch.Tensor]:
    """The fields of a `StackedLinear` of one expert."""
    weight, bias = layer
    parts = {} if bias is None else {"bias": bias}
    if isinstance(weight, Fp8Rows) or quantized:
        rows = weight if isinstance(weight, Fp8Rows) else quantize_rows(weight)
        return parts | {"weight": rows.levels, "scale": rows.scale}
    return parts | {"weight": weight}
