"""Grouped products of experts in Triton: against the oracle in float64, and a row's bits in any company."""

from __future__ import annotations

import pytest
import torch

from preftree.kernels import reference
from preftree.kernels.quantized.fp8 import FP8
from preftree.kernels.quantized.types import Quantized
from preftree.kernels.routing import ExpertPairs, route, sort_by_expert
from preftree.kernels.tiles import Activation
from tests.kernels.fp8 import rounding_interpreter  # noqa: F401
from tests.kernels.on_device import DEVICE, PRODUCT_DTYPES, amid_nan, assert_as_good_as_plain, gpu_if_there

pytest.importorskip("triton")
from preftree.kernels.experts import combine_experts, expert_products
from preftree.kernels.stacked import Experts, pack_experts

pytestmark = [*gpu_if_there, pytest.mark.usefixtures("poisoned_allocations")]

GATES = {"silu": reference.swiglu, "gelu_tanh": reference.geglu, "clamped_silu": reference.clamped_swiglu}
Layers = list[tuple[torch.Tensor, torch.Tensor | None]]


def layers_of(count: int, outputs: int, inputs: int, dtype: torch.dtype, has_bias: bool = False) -> Layers:
    draw = torch.Generator().manual_seed(outputs)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw).to(DEVICE, dtype)

    return [(normal(outputs, inputs) / 8, normal(outputs) if has_bias else None) for _ in range(count)]


def in_float64(layers: Layers) -> Layers:
    return [(weight.double(), None if bias is None else bias.double()) for weight, bias in layers]


def mixed(x: torch.Tensor, pairs: ExpertPairs, experts: Experts, activation: Activation = "silu") -> torch.Tensor:
    products = torch.full((len(pairs.rows), x.shape[1]), float("nan"), dtype=x.dtype, device=DEVICE)
    expert_products(x, pairs, experts, activation, products)
    return combine_experts(products, pairs)


@pytest.mark.parametrize("dtype", PRODUCT_DTYPES)
@pytest.mark.parametrize(
    ("rows", "hidden", "width", "count", "per_row", "activation"),
    [
        (300, 64, 128, 2, 1, "silu"),  # several tiles of an expert
        (37, 96, 40, 9, 3, "clamped_silu"),  # sizes that no block divides; experts that nobody chooses
        (5, 64, 32, 4, 4, "gelu_tanh"),  # every expert for every row
    ],
)
def test_equals_the_oracle(
    rows: int, hidden: int, width: int, count: int, per_row: int, activation: Activation, dtype: torch.dtype
) -> None:
    """Catches tiles of two experts, tiles left out, a gate taken for what it multiplies, and biases of others."""
    has_bias = activation == "clamped_silu"
    gate_ups = layers_of(count, 2 * width, hidden, dtype, has_bias)
    downs = layers_of(count, hidden, width, dtype, has_bias)
    x = amid_nan(torch.randn(rows, hidden).to(dtype))
    router = torch.randn(rows, count)
    router[:, 1:3] -= 20 if count > per_row + 2 else 0
    weights, chosen = (one.to(DEVICE) for one in route(router, per_row, True))
    ours = mixed(x, sort_by_expert(weights, chosen, count), pack_experts(gate_ups, downs, count), activation)
    plain = reference.mixture(x, weights, chosen, gate_ups, downs, GATES[activation])
    wide = x.double(), weights.double(), chosen, in_float64(gate_ups), in_float64(downs)
    exact = reference.mixture(*wide, GATES[activation])
    assert_as_good_as_plain(ours, plain, exact)


@pytest.mark.parametrize(
    ("rows", "hidden", "width", "activation"), [(40, 256, 128, "silu"), (37, 176, 48, "clamped_silu")]
)
@pytest.mark.usefixtures("rounding_interpreter")
def test_fp8_equals_the_oracle(rows: int, hidden: int, width: int, activation: Activation) -> None:
    """Catches scales of other rows, experts or outputs, up taken with gate's scales, and sums in fewer bits."""
    count, has_bias = 4, activation == "clamped_silu"
    scales = torch.logspace(-1, 1, count).tolist()
    gate_ups, downs = (
        [(weight * scale, bias) for (weight, bias), scale in zip(layers, scales, strict=True)]
        for layers in (
            layers_of(count, 2 * width, hidden, torch.float32, has_bias),
            layers_of(count, hidden, width, torch.float32, has_bias),
        )
    )
    x = amid_nan(torch.randn(rows, hidden) * torch.logspace(-1, 1, rows).unsqueeze(1))
    weights, chosen = (one.to(DEVICE) for one in route(torch.randn(rows, count), 2, True))
    packed = pack_experts(gate_ups, downs, count, "fp8")
    assert packed.gate_up.weight.dtype == FP8
    ours = mixed(x, sort_by_expert(weights, chosen, count), packed, activation)
    wide = x.double(), weights.double(), chosen, in_float64(gate_ups), in_float64(downs), GATES[activation]
    exact, plain = reference.mixture(*wide, reference.fp8_linear), reference.mixture(*wide)
    # A number between two steps may be rounded to the other one.
    errors = (ours - exact).norm(dim=1) / exact.norm(dim=1)
    assert float(errors.median()) < 2e-3
    assert float(errors.max()) < 0.02
    assert (ours - plain).norm() < 0.1 * plain.norm()


@pytest.mark.parametrize("dtype", [*PRODUCT_DTYPES, FP8])
@pytest.mark.usefixtures("rounding_interpreter")
def test_bits_of_a_row_are_its_own(dtype: torch.dtype) -> None:
    """Catches sums that depend on a row's place in a tile, on who else chose its experts, or on how many rows there
    are."""
    rows, hidden, count = 150, 64, 3
    quantized: Quantized | None = "fp8" if dtype == FP8 else None
    dtype = torch.float32 if quantized else dtype
    layers = layers_of(count, 64, hidden, dtype), layers_of(count, hidden, 32, dtype)
    experts = pack_experts(*layers, count, quantized)
    x, router = torch.randn(rows, hidden).to(DEVICE, dtype), torch.randn(rows, count).to(DEVICE)

    def of(some: torch.Tensor) -> torch.Tensor:
        return mixed(x[some], sort_by_expert(*route(router[some], 2, True), count), experts)

    everything = of(torch.arange(rows))
    for some in (torch.randperm(rows), torch.tensor([77]), torch.arange(50, 90), torch.tensor([9, 9, 9, 140])):
        assert torch.equal(of(some), everything[some])


def test_a_nan_stays_in_its_row() -> None:
    """Catches a broken row that becomes its neighbours', or that is clamped to a number."""
    x = torch.randn(20, 64).to(DEVICE)
    x[7] = float("nan")
    experts = pack_experts(layers_of(2, 64, 64, x.dtype), layers_of(2, 64, 32, x.dtype), 2)
    found = mixed(x, sort_by_expert(*route(torch.randn(20, 2).to(DEVICE), 1, True), 2), experts, "clamped_silu")
    assert found.isnan().all(1).nonzero().flatten().tolist() == [7]
    assert found.isfinite().all(1).sum() == 19
