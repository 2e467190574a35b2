"""cuBLAS on blocks of a fixed number of rows: a row's bits are its own, wherever it lies in the block.

No library promises that. It holds as long as every row of a block goes through the same sums, which these tests ask of
the very shapes that models have; the engine's promise stands on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from preftree.kernels import reference
from tests.kernels.on_device import DEVICE, needs_gpu

if TYPE_CHECKING:
    from preftree.kernels.cuda import PackedLinear

pytestmark = [pytest.mark.gpu, needs_gpu]

# hidden, heads, K/V heads, head size, intermediate
MODELS = {
    "SmolLM2-135M": (576, 9, 3, 64, 1536),
    "Qwen3-0.6B": (1024, 16, 8, 128, 3072),
    "Llama-3-8B": (4096, 32, 8, 128, 14336),
}
Linear = Callable[[torch.Tensor], torch.Tensor]


def weight_shapes(model: str) -> dict[str, tuple[int, int]]:
    """[out, in] of a layer's matrices."""
    hidden, heads, kv_heads, size, inner = MODELS[model]
    return {
        "q": (heads * size, hidden),
        "kv": (2 * kv_heads * size, hidden),
        "qkv": ((heads + 2 * kv_heads) * size, hidden),
        "o": (hidden, heads * size),
        "gate_up": (2 * inner, hidden),
        "down": (hidden, inner),
    }


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """As the engine multiplies."""
    from preftree.kernels import cuda

    with cuda.exact_products():
        yield


def onto_ones(x: torch.Tensor, packed: PackedLinear) -> torch.Tensor:
    """x through a product that adds to the residual stream."""
    from preftree.kernels import cuda

    residual = x.new_ones(len(x), packed.weight.shape[1])
    cuda.add_linear(residual, x, packed)
    return residual


def draw(*shape: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype, device=DEVICE)


def assert_rows_are_independent(linear: Linear, x: torch.Tensor) -> None:
    """Rows permuted, rows duplicated, other rows replaced, again: always the same bits. x: one block of rows."""
    rows = len(x)
    expected = linear(x)
    assert torch.equal(linear(x.clone()), expected), "again, from elsewhere in memory"
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(1)).to(x.device)
    assert torch.equal(linear(x[order]), expected[order]), "permuted"
    assert torch.equal(linear(x.roll(1, 0)), expected.roll(1, 0)), "one place further"
    for row in (0, rows // 2 + 1, rows - 1):
        assert torch.equal(linear(x[row].repeat(rows, 1)), expected[row].expand_as(expected)), "everywhere"
    kept = torch.arange(5, rows, 37, device=x.device)
    for fill in (3.0, 0.0, float("nan")):  # rows that fill up a block hold anything
        others = fill * draw(*x.shape, dtype=x.dtype, seed=2)
        others[kept] = x[kept]
        assert torch.equal(linear(others)[kept], expected[kept]), "among other rows"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("model", MODELS)
def test_bits_of_a_row_are_its_own(model: str, dtype: torch.dtype) -> None:
    """Blocks of all rows and of final rows, as the plan has them for this model."""
    from preftree.kernels import cuda

    hidden, heads, kv_heads, size, _ = MODELS[model]
    layout = cuda.plan_layout(DEVICE, dtype, hidden, heads // kv_heads, size)
    for name, (outputs, inputs) in weight_shapes(model).items():
        packed = cuda.pack_plain(draw(outputs, inputs, dtype=dtype, seed=3) * inputs**-0.5)
        for rows in (layout.row_block, layout.final_row_block):
            x = draw(rows, inputs, dtype=dtype, seed=4)
            try:
                assert_rows_are_independent(partial(cuda.linear, packed=packed), x)
                assert_rows_are_independent(partial(onto_ones, packed=packed), x)
            except AssertionError as error:
                pytest.fail(f"{name} [{outputs}, {inputs}], blocks of {rows} rows: {str(error).partition('assert')[0]}")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("outputs", "inputs"), [(576, 1536), (4096, 14336)])
def test_against_the_oracle(outputs: int, inputs: int, dtype: torch.dtype) -> None:
    """Sums are kept in float32: the error is that of rounding the result, not of TF32 nor of 16-bit partial sums."""
    from preftree.kernels import cuda

    x, weight = draw(256, inputs, dtype=dtype, seed=5), draw(outputs, inputs, dtype=dtype, seed=6)
    exact = reference.linear(x.double(), weight.double())
    error = (cuda.linear(x, cuda.pack_linear(weight)).double() - exact).norm() / exact.norm()
    rounding = (exact.to(dtype).double() - exact).norm() / exact.norm()
    assert error <= 2 * rounding + 1e-5


@pytest.mark.parametrize("product", ["library", "triton"])
@pytest.mark.parametrize("model", MODELS)
def test_fp8(model: str, product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches bits that depend on a row's place, and sums in so few bits that long rows lose theirs."""
    from preftree.kernels import cuda

    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("fp8 needs a GPU of compute capability 8.9 or newer")
    monkeypatch.setenv("PREFTREE_FP8_PRODUCT", product)
    hidden, heads, kv_heads, size, _ = MODELS[model]
    layout = cuda.plan_layout(DEVICE, torch.bfloat16, hidden, heads // kv_heads, size)
    for name, (outputs, inputs) in weight_shapes(model).items():
        weight = draw(outputs, inputs, dtype=torch.bfloat16, seed=3) * inputs**-0.5
        packed = cuda.pack_linear(weight, quantized="fp8")
        for rows in (layout.row_block, layout.final_row_block):
            x = draw(rows, inputs, dtype=torch.bfloat16, seed=4)
            assert_rows_are_independent(partial(cuda.linear, packed=packed), x)
        exact = reference.fp8_linear(x.double(), weight.double())
        assert (cuda.linear(x, packed) - exact).norm() / exact.norm() < 0.005, name


def test_the_fallback_without_split_k() -> None:
    """As `exact_products` describes it: torch accepts the setting for both of the engine's products."""
    from preftree.kernels import cuda

    matmul, library = torch.backends.cuda.matmul, torch.backends.cuda.preferred_blas_library()
    x, weight = (draw(256, 1024, dtype=torch.bfloat16, seed=seed) for seed in (9, 10))
    try:
        torch.backends.cuda.preferred_blas_library("cublaslt")
        matmul.allow_bf16_reduced_precision_reduction = (False, False)
        with cuda.exact_products():
            assert_rows_are_independent(lambda block: cuda.linear(block, cuda.pack_linear(weight)), x)
            assert_rows_are_independent(lambda block: cuda.token_logits(block, weight), x)
    finally:
        torch.backends.cuda.preferred_blas_library(library)
        matmul.allow_bf16_reduced_precision_reduction = (False, True)


def test_the_check_catches_a_variant_linear() -> None:
    """The inverse: sums that are split where the block's content says must fail the check."""
    weight = draw(64, 512, dtype=torch.float32, seed=7)

    def variant(x: torch.Tensor) -> torch.Tensor:
        split = 100 + int(x[0, 0].abs() * 100) % 200
        return x[:, :split] @ weight[:, :split].T + x[:, split:] @ weight[:, split:].T

    with pytest.raises(AssertionError):
        assert_rows_are_independent(variant, draw(256, 512, dtype=torch.float32, seed=8))
