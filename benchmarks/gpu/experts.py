"""Grouped products of experts at the sizes of Qwen3-30B-A3B, in 16 bits and fp8, against dense ones of as much work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks.gpu.device import Device
from benchmarks.gpu.linear import exact
from benchmarks.gpu.report import Section, Table, number, percent
from benchmarks.gpu.session import Session
from benchmarks.gpu.targets import Measured
from preftree.engine.precision import LEAST_FP8_CAPABILITY
from preftree.kernels.quantized.types import Quantized
from preftree.kernels.routing import ExpertPairs

# How much likelier some experts are than others: nats between them, one standard deviation.
SPREADS = {"balanced": 0.1, "skewed": 1.5}


@dataclass(frozen=True)
class MixtureShape:
    """Sizes of a mixture: `per_row` of `count` experts of width `width` for each row."""

    hidden: int
    width: int
    count: int
    per_row: int

    @property
    def layers(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Outputs and inputs of an expert's products."""
        return (2 * self.width, self.hidden), (self.hidden, self.width)


FULL, REHEARSAL = MixtureShape(2048, 768, 128, 8), MixtureShape(64, 32, 6, 2)


def _layers(device: Device, count: int, *layer: int) -> Iterator[tuple[torch.Tensor, None]]:
    return ((device.random(*layer), None) for _ in range(count))


class _Mixture:
    """A mixture of random experts on the device."""

    def __init__(self, device: Device, shape: MixtureShape, quantized: Quantized | None = None) -> None:
        self._ops, self._shape = device.ops, shape
        self._experts = self._ops.pack_experts(
            *(_layers(device, shape.count, *layer) for layer in shape.layers), shape.count, quantized
        )

    def sort(self, logits: torch.Tensor) -> ExpertPairs:
        pairs: ExpertPairs = self._ops.sort_by_expert(
            *self._ops.route(logits, self._shape.per_row, True), self._shape.count
        )
        return pairs

    def multiply(self, x: torch.Tensor, pairs: ExpertPairs, products: torch.Tensor) -> None:
        self._ops.expert_products(x, pairs, self._experts, "silu", products, row_block=len(x))

    def run(self, x: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """[rows, hidden]"""
        pairs, products = self.sort(logits), x.new_empty(len(x) * self._shape.per_row, self._shape.hidden)
        self.multiply(x, pairs, products)
        total: torch.Tensor = self._ops.combine_experts(products, pairs)
        return total

    def differing(self, x: torch.Tensor, logits: torch.Tensor) -> int:
        """Rows that have other bits where every third is run without the rest, in reverse."""
        few = torch.arange(0, len(x), 3, device=x.device).flip(0)
        return int((self.run(x, logits)[few] != self.run(x[few], logits[few])).any(1).sum())


def run(session: Session) -> Section:
    device, rows, window = session.device, session.sizes.rows, session.sizes.window
    shape = REHEARSAL if device.is_rehearsal else FULL
    of_pairs = rows * shape.per_row
    operations = 2 * of_pairs * sum(outputs * inputs for outputs, inputs in shape.layers)
    table = Table(
        f"{shape.count} experts of {shape.hidden:,} x {shape.width:,}, {shape.per_row} a row, {rows:,} rows",
        ["products", "us", "TFLOP/s", "share of the matrix rate", "of the dense rate", "sorting, us", "adding up, us"],
    )
    section, x, products = Section([table]), device.random(rows, shape.hidden), device.random(of_pairs, shape.hidden)

    def add(name: str, seconds: float, *others: str) -> None:
        rate = operations / seconds
        share = percent(rate / session.ceilings.matrix)
        table.add(name, number(seconds * 1e6), number(rate / 1e12), share, *others)
        section.data[name] = {"seconds": seconds, "flops_per_second": rate}

    dense = device.time([_dense(session, shape, products)], window).seconds
    add("dense", dense, "", "", "")
    for quantized in _types(device):
        mixture = _Mixture(device, shape, quantized)
        for spread_name, spread in SPREADS.items():
            name = f"{spread_name}, {quantized}" if quantized else spread_name
            logits = device.random(rows, shape.count) + spread * device.random(shape.count)
            pairs = mixture.sort(logits)
            seconds = device.time([partial(mixture.multiply, x, pairs, products)], window).seconds
            sorting = device.time([partial(mixture.sort, logits)], window).seconds
            adding = device.time([partial(device.ops.combine_experts, products, pairs)], window).seconds
            add(name, seconds, percent(dense / seconds), number(sorting * 1e6), number(adding * 1e6))
            section.measured.append(Measured("bits", f"experts, {name}", float(mixture.differing(x, logits))))
        del mixture
        device.release()
    return section


def _types(device: Device) -> tuple[Quantized | None, ...]:
    has_fp8 = device.is_rehearsal or torch.cuda.get_device_capability(device.torch_device) >= LEAST_FP8_CAPABILITY
    return (None, "fp8") if has_fp8 else (None,)


def _dense(session: Session, shape: MixtureShape, x: torch.Tensor) -> Any:
    """One expert for everybody."""
    device, block = session.device, session.sizes.row_blocks[-1]
    gate_up, down = (device.random(*layer) for layer in shape.layers)
    packed = device.ops.pack_gated(gate_up), device.ops.pack_linear(down)

    def call() -> torch.Tensor:
        with exact(device.ops):
            inner = device.ops.gated(x, packed[0], "silu", block)
            out: torch.Tensor = device.ops.linear(inner, packed[1], block)
            return out

    return call
