"""Mixtures of experts on a CPU: an expert's rows are gathered, multiplied a block at a time, and put beside each other.

Experts are independent of each other, so threads share them out; a row then adds up its own in ascending order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from preftree.kernels.quantized.types import Quantized
from preftree.kernels.routing import ExpertPairs
from preftree.kernels.stacked import Layer
from preftree.kernels.tiles import round_up

# A packed layer, as `gated` and `linear` take it.
Packed = Any


@dataclass(frozen=True)
class Experts:
    """The MLPs of a mixture, packed one by one. gate_ups: by `pack_gated`. downs: by `pack_linear`."""

    gate_ups: tuple[Packed, ...]
    downs: tuple[Packed, ...]


def pack_experts(
    gate_ups: Iterable[Layer],
    downs: Iterable[Layer],
    pack_gated: Callable[..., Packed],
    pack_linear: Callable[..., Packed],
    quantized: Quantized | None = None,
) -> Experts:
    """Pack layers that are taken one at a time. gate_ups: gate and up, one below the other. quantized: to this type."""
    return Experts(
        tuple(pack_gated(*layer, quantized) for layer in gate_ups),
        tuple(pack_linear(*layer, quantized) for layer in downs),
    )


def expert_products(
    x: torch.Tensor,
    pairs: ExpertPairs,
    experts: Experts,
    out: torch.Tensor,
    numbers: range | None,
    block: int,
    at_once: int,
    multiply: Callable[[torch.Tensor, Packed, Packed], torch.Tensor],
) -> None:
    """The MLPs of the experts `numbers`, or of all, into their pairs' rows of `out` [pairs, hidden].

    x: [rows, hidden]. block: rows that a product takes a multiple of; zeros fill up the last one. at_once: rows that
    are gathered together. multiply: rows through gate_up and down.
    """
    starts = pairs.starts.tolist()
    for number in range(len(experts.downs)) if numbers is None else numbers:
        for first in range(starts[number], starts[number + 1], at_once):
            rows = pairs.rows[first : min(first + at_once, starts[number + 1])]
            gathered = x.new_empty(round_up(len(rows), block), x.shape[1])
            torch.index_select(x, 0, rows, out=gathered[: len(rows)])
            gathered[len(rows) :] = 0
            products = multiply(gathered, experts.gate_ups[number], experts.downs[number])
            out[first : first + len(rows)] = products[: len(rows)]


def combine_experts(products: torch.Tensor, pairs: ExpertPairs) -> torch.Tensor:
    """Each row's experts, times their weights, added up in float32 in ascending order: [rows, hidden].

    products: [pairs, hidden], from `expert_products`.
    """
    out = torch.zeros(len(pairs.places), products.shape[1])
    for place, weight in zip(pairs.places.unbind(1), pairs.weights.split(1, 1), strict=True):
        out.addcmul_(products.index_select(0, place).float(), weight)
    return out.to(products.dtype)
