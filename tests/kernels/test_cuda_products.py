"""What the CUDA operations do around the library's products. The library multiplies on any device: no GPU is needed."""

from __future__ import annotations

import pytest
import torch

from preftree.kernels import reference
from tests.kernels.on_device import DEVICE, gpu_if_there

cuda = pytest.importorskip("preftree.kernels.cuda", exc_type=ImportError)

pytestmark = gpu_if_there
ROWS, INPUTS, OUTPUTS = 40, 96, 64


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


@pytest.mark.parametrize("factor", [1.0, 0.25])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_joins_the_residual_stream(dtype: torch.dtype, has_bias: bool, factor: float) -> None:
    """Catches an update that is lost, added twice or not scaled, and a sum that is rounded twice without need."""
    x, weight, residual = draw(ROWS, INPUTS, dtype=dtype), draw(OUTPUTS, INPUTS, dtype=dtype), draw(ROWS, OUTPUTS)
    bias = draw(OUTPUTS, dtype=dtype) if has_bias else None
    residual = residual.to(dtype)
    exact = residual.double()
    reference.add_linear(exact, x.double(), weight.double(), None if bias is None else bias.double(), factor)
    left = cuda.add_linear(residual, x, cuda.pack_linear(weight, bias), 16, factor)
    assert (left is None) == (bias is None), "the norm that follows adds what has a bias"
    if left is not None:
        residual += left
    steps = 3 if has_bias else 1
    allowed = steps * torch.finfo(dtype).eps / 2 * exact.abs().amax() + 1e-6 * INPUTS
    assert (residual.double() - exact).abs().amax() <= allowed


def test_a_row_of_a_sum_is_its_own() -> None:
    """Catches blocks that read the residual stream of another block."""
    x, weight, residual = draw(ROWS, INPUTS), draw(OUTPUTS, INPUTS), draw(ROWS, OUTPUTS)
    packed, whole, last = cuda.pack_linear(weight), residual.clone(), residual[32:].clone()
    cuda.add_linear(whole, x, packed, 8)
    cuda.add_linear(last, x[32:], packed, 8)
    assert torch.equal(whole[32:], last)


@pytest.mark.parametrize("has_bias", [False, True])
def test_parts_of_one_matrix(has_bias: bool) -> None:
    """Catches a second copy of the weights, and parts that begin at another output than the whole's."""
    weight, bias, width = draw(OUTPUTS, INPUTS), draw(OUTPUTS) if has_bias else None, 48
    packed = cuda.pack_qkv(weight, bias, width)
    x = draw(ROWS, INPUTS)
    whole = cuda.linear(x, packed, 16)
    for part, expected in ((packed.queries, whole[:, :width]), (packed.keys_values, whole[:, width:])):
        assert part.weight.untyped_storage().data_ptr() == packed.weight.untyped_storage().data_ptr()
        torch.testing.assert_close(cuda.linear(x, part, 16), expected)
    exact = reference.linear(x.double(), weight.double(), None if bias is None else bias.double())
    torch.testing.assert_close(whole.double(), exact, rtol=0, atol=1e-4)
