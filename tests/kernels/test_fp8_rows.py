"""Rows in fp8 against their oracle in float64: torch's, and Triton's on a GPU or in its interpreter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from preftree.kernels import gated, norm, reference
from preftree.kernels.fp8_rows import BLOCK, fp8_rows
from preftree.kernels.quantized.fp8 import Fp8Rows, quantize_rows
from preftree.kernels.tiles import Activation
from tests.kernels.fp8 import rounding_interpreter  # noqa: F401
from tests.kernels.on_device import CUT_OFF, DEVICE, DTYPES, amid_nan, gpu_if_there

EPS = 1e-5
GATES: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": reference.swiglu,
    "gelu_tanh": reference.geglu,
    "clamped_silu": reference.clamped_swiglu,
}
QUANTISERS = [quantize_rows, fp8_rows]

pytestmark = [*gpu_if_there, pytest.mark.usefixtures("poisoned_allocations", "rounding_interpreter")]


def assert_quantised(found: Fp8Rows, exact: torch.Tensor) -> None:
    """The levels of `exact` [rows, in] float64 bit for bit, but where float32 cannot tell on which side of the middle
    between two of them a number is; and scales but for float32's last bits."""
    levels, scale = reference.fp8_rows(exact)
    torch.testing.assert_close(found.scale.double(), scale, rtol=2e-6, atol=0)
    differ = found.levels.view(torch.uint8) != levels.view(torch.uint8)
    beside = (exact / scale.unsqueeze(1))[differ]
    middle = (found.levels.double() + levels.double())[differ] / 2
    torch.testing.assert_close(beside, middle, rtol=4e-6, atol=1e-5)
    # Numbers of 8 digits are often in the very middle.
    assert differ.sum() <= max(1, differ.numel() // 500)


def rows_of_many_sizes(rows: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """A scale for all of them would lose the small ones; a row of zeros, and one of a single number."""
    x = torch.randn(rows, width) * torch.logspace(-3, 3, rows).unsqueeze(1)
    x[rows // 2], x[-1], x[-1, -1] = 0, 0, -3
    return amid_nan(x.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), [(3, 64), (31, 1000), (5, 2 * BLOCK + 16)])
@pytest.mark.parametrize("quantise", QUANTISERS)
def test_rows(rows: int, width: int, dtype: torch.dtype, quantise: Callable[[torch.Tensor], Fp8Rows]) -> None:
    """Catches a row's end that is left out, numbers beside the row, and steps of another size."""
    x = rows_of_many_sizes(rows, width, dtype)
    found = quantise(x)
    assert_quantised(found, x.double())
    assert found.levels.float().abs().amax(1).tolist() == [0 if i == rows // 2 else 448 for i in range(rows)]
    assert found.levels[rows // 2].view(torch.uint8).eq(0).all(), "zeros stay zeros, of either sign"


@pytest.mark.parametrize("quantise", QUANTISERS)
def test_the_largest_and_the_smallest(quantise: Callable[[torch.Tensor], Fp8Rows]) -> None:
    """Catches an overflow on either side: subnormal rows, and the largest of float32."""
    most, least = torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny
    found = quantise(torch.tensor([[most, -most, 1.0, 0.0], [least, -least / 2, 0.0, 0.0]], device=DEVICE))
    assert found.levels.float().tolist() == [[448, -448, 0, 0], [1, -0.5, 0, 0]]
    assert torch.isfinite(found.scale).all()
    assert (found.scale > 0).all()


@pytest.mark.parametrize("quantise", QUANTISERS)
@pytest.mark.parametrize("broken", [float("inf"), -float("inf"), float("nan")])
def test_what_is_not_finite_is_not_quantised_away(quantise: Callable[[torch.Tensor], Fp8Rows], broken: float) -> None:
    """Catches saturation that turns a broken row into one of numbers; the row beside it is left alone."""
    x = torch.ones(2, 64, device=DEVICE)
    x[1, 7] = broken
    found = quantise(x)
    products = (found.levels.float() * found.scale.unsqueeze(1)).sum(1)
    assert [bool(one) for one in torch.isfinite(products)] == [True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("is_centred", [False, True])
@pytest.mark.parametrize(("rows", "hidden"), [(3, 64), (17, 576), (5, 1000)])
def test_norms(rows: int, hidden: int, is_centred: bool, dtype: torch.dtype) -> None:
    """Catches a norm that is rounded to 16 bits before it is quantised, and a residual that is not updated."""
    x, update = (amid_nan((torch.randn(rows, hidden) + 0.3).to(dtype)) for _ in range(2))
    weight = amid_nan((torch.rand(1, hidden) + 0.5).to(dtype))[0]
    oracle = reference.layer_norm if is_centred else reference.rms_norm
    assert_quantised(norm.fp8_norm(x, None, weight, EPS, is_centred), oracle(x.double(), weight.double(), EPS))
    total = x + update
    found = norm.fp8_norm(x, update, weight, EPS, is_centred)
    if dtype != CUT_OFF:
        assert torch.equal(x, total), "the residual is updated in place"
    assert_quantised(found, oracle(x.double(), weight.double(), EPS))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", GATES)
@pytest.mark.parametrize(("rows", "width"), [(3, 64), (17, 1000), (3, 2 * gated.ROW_BLOCK + 16)])
def test_gates(rows: int, width: int, activation: Activation, dtype: torch.dtype) -> None:
    """Catches a largest number of one part of the row, and a gate that is rounded before it is quantised."""
    x = amid_nan((3 * torch.randn(rows, 2 * width)).to(dtype))
    assert_quantised(gated.fp8_gated(x, activation), GATES[activation](x.double()))


def test_bits_of_a_row_are_its_own() -> None:
    """Catches a scale that a neighbour has a part in."""
    x, update, weight = (torch.randn(rows, 512, device=DEVICE) for rows in (33, 33, 1))
    order = torch.randperm(33).to(DEVICE)
    for operation in (
        lambda index: fp8_rows(x[index]),
        lambda index: norm.fp8_norm(x[index], update[index], weight[0], EPS, is_centred=False),
        lambda index: gated.fp8_gated(x[index], "silu"),
    ):
        expected = operation(torch.arange(33, device=DEVICE))
        for index in (order, order[:1], order[:4]):
            found = operation(index)
            assert torch.equal(found.levels.view(torch.uint8), expected.levels[index].view(torch.uint8))
            assert torch.equal(found.scale, expected.scale[index])


def test_no_rows() -> None:
    """A batch may leave nothing to do."""
    assert fp8_rows(torch.empty(0, 64, device=DEVICE)).levels.shape == (0, 64)
    assert gated.fp8_gated(torch.empty(0, 64, device=DEVICE), "silu").scale.shape == (0,)
