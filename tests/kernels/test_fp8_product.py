"""Products in fp8 against their oracle in float64: the CPU's emulation, and Triton's kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from preftree.kernels import cpu, reference
from preftree.kernels.fp8_product import BLOCK_M, fp8_product
from preftree.kernels.quantized.fp8 import Fp8Linear, emulated_linear, pack_fp8, quantize_rows
from preftree.kernels.tiles import Activation
from tests.kernels.on_device import DEVICE, gpu_if_there

Product = Callable[[torch.Tensor, Fp8Linear], torch.Tensor]
GATES: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": reference.swiglu,
    "gelu_tanh": reference.geglu,
    "clamped_silu": reference.clamped_swiglu,
}

pytestmark = [*gpu_if_there, pytest.mark.usefixtures("poisoned_allocations")]


def in_triton(x: torch.Tensor, packed: Fp8Linear) -> torch.Tensor:
    out = torch.empty(len(x), len(packed.weight.levels), device=x.device)
    fp8_product(quantize_rows(x), packed, out)
    return out


PRODUCTS = pytest.mark.parametrize("product", [emulated_linear, in_triton])


@PRODUCTS
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 64, 48), (130, 400, 272), (31, 128, 16)])
def test_products(product: Product, rows: int, inputs: int, outputs: int, has_bias: bool) -> None:
    """Catches scales of the wrong row, ends that are left out, and sums in fewer bits; rows are of many sizes."""
    x = torch.randn(rows, inputs, device=DEVICE) * torch.logspace(-3, 3, rows, device=DEVICE).unsqueeze(1)
    weight = torch.randn(outputs, inputs, device=DEVICE) * torch.logspace(-3, 3, outputs, device=DEVICE).unsqueeze(1)
    x[-1], weight[-1] = 0, 0
    bias = torch.randn(outputs, device=DEVICE) if has_bias else None
    ours = product(x, pack_fp8(weight, bias))
    in_float64 = x.double(), weight.double(), None if bias is None else bias.double()
    exact, plain = reference.fp8_linear(*in_float64), reference.linear(*in_float64)
    error = (ours - exact).abs() / (exact.abs() + 1e-3 * exact.abs().amax(1, keepdim=True) + 1e-9)
    # A number between two steps may be rounded to the other one.
    assert float((error > 1e-4).double().mean()) < 0.02
    assert (ours - plain).norm() <= 0.05 * plain.norm()


@PRODUCTS
def test_bits_of_a_row_are_its_own(product: Product) -> None:
    """Catches sums whose order depends on the number of rows, or on a row's place."""
    x, packed = torch.randn(2 * BLOCK_M + 3, 272, device=DEVICE), pack_fp8(torch.randn(96, 272, device=DEVICE), None)
    expected = product(x, packed)
    order = torch.randperm(len(x)).to(DEVICE)
    for index in (order, order[:1], order[:7], order[: BLOCK_M + 1]):
        assert torch.equal(product(x[index], packed), expected[index])


@PRODUCTS
def test_what_is_not_finite_stays_so(product: Product) -> None:
    """Catches a NaN that becomes a number, or that reaches the row beside it."""
    x = torch.ones(2, 64, device=DEVICE)
    x[1, 3] = float("nan")
    found = torch.isfinite(product(x, pack_fp8(torch.randn(32, 64, device=DEVICE), None)))
    assert found[0].all()
    assert not found[1].any()


@pytest.mark.parametrize("activation", GATES)
def test_gates(activation: Activation) -> None:
    """Catches gates of a CPU that read 8 bits as if they were 16, and rows that are padded by the caller."""
    x, weight = torch.randn(40, 96).bfloat16(), torch.randn(160, 96).bfloat16()
    ours = cpu.gated(x, cpu.pack_gated(weight, quantized="fp8"), activation, row_block=32)
    exact = GATES[activation](reference.fp8_linear(x.double(), weight.double()))
    assert ours.dtype == torch.bfloat16
    assert (ours - exact).norm() / exact.norm() < 0.01
