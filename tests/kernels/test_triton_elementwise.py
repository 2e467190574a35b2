"""Norm, rotary embedding and SwiGLU in Triton against their oracles, on a GPU or else in Triton's interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is imported

from kernels import norm, reference, rope_store, swiglu
from tests.kernels.shapes import amid_nan

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# The interpreter cuts float32 off to bfloat16 where a GPU rounds: twice the error of the last step.
CUT_OFF = torch.bfloat16 if DEVICE == "cpu" else None
NAN = float("nan")
EPS = 1e-5


pytestmark = pytest.mark.usefixtures("poisoned_allocations")


def assert_surroundings_untouched(x: torch.Tensor) -> None:
    buffer = x._base
    assert buffer is not None
    assert buffer[0].isnan().all()
    assert buffer[-1].isnan().all()


def assert_as_good_as_plain(ours: torch.Tensor, plain: torch.Tensor, exact: torch.Tensor) -> None:
    """`plain` is the oracle in the dtype of `ours`, `exact` the oracle in float64."""
    factor = 4 if ours.dtype == CUT_OFF else 2
    allowed = factor * (plain.double() - exact).norm() / exact.norm() + 1e-7
    assert ours.dtype == plain.dtype
    assert torch.isfinite(ours).all()
    assert (ours.double() - exact).norm() / exact.norm() <= allowed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "hidden"), [(1, 64), (31, 96), (33, 576), (127, 1000), (129, 64), (2, 16384)])
def test_norms(rows: int, hidden: int, dtype: torch.dtype) -> None:
    x, update = (amid_nan(torch.randn(rows, hidden).to(dtype)) for _ in range(2))
    weight = amid_nan((torch.rand(1, hidden) + 0.5).to(dtype))[0]
    plain, exact = (reference.rms_norm(x.to(t), weight.to(t), EPS) for t in (dtype, torch.float64))
    assert_as_good_as_plain(norm.rms_norm(x, weight, EPS), plain, exact)

    total = x + update
    normed = norm.add_rms_norm(x, update, weight, EPS)
    if dtype == CUT_OFF:
        torch.testing.assert_close(x, total)
    else:
        assert torch.equal(x, total), "the residual is updated in place"
    plain, exact = (reference.rms_norm(x.to(t), weight.to(t), EPS) for t in (dtype, torch.float64))
    assert_as_good_as_plain(normed, plain, exact)
    assert_surroundings_untouched(x)


def test_a_row_too_long_for_one_program_is_refused() -> None:
    x = torch.ones(1, norm.MAX_HIDDEN + 1, device=DEVICE)
    with pytest.raises(AssertionError, match="16385"):
        norm.rms_norm(x, x[0], EPS)


def angles_of(rows: int, size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.rand(rows, size // 2) * 100
    return amid_nan(angles.cos().to(dtype)), amid_nan(angles.sin().to(dtype))


def rotated(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, weight: torch.Tensor | None, size: int, dtype: torch.dtype
) -> torch.Tensor:
    """The oracle in `dtype`: optional norm of every head, then rotation."""
    heads = x.reshape(len(x), -1, size).to(dtype)
    if weight is not None:
        heads = reference.rms_norm(heads, weight.to(dtype), EPS)
    out = torch.empty_like(heads)
    reference.rotate(heads.flatten(1), cos.to(dtype), sin.to(dtype), out)
    return out


@pytest.mark.parametrize("is_normed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "size", "heads"), [(1, 64, 3), (31, 80, 1), (33, 96, 4), (127, 128, 3), (129, 256, 2)]
)
def test_queries_keys_and_values(rows: int, size: int, heads: int, dtype: torch.dtype, is_normed: bool) -> None:
    """From one fused row of queries, keys and values into slices of buffers of every layer; values are copied."""
    projected = amid_nan(torch.randn(rows, 4 * heads * size).to(dtype))
    q, kv = projected.split([2 * heads * size, 2 * heads * size], dim=1)
    cos, sin = angles_of(rows, size, dtype)
    weight = amid_nan((torch.rand(1, size) + 0.5).to(dtype))[0] if is_normed else None
    queries = torch.full((rows + 2, 2 * heads, size), NAN, dtype=dtype, device=DEVICE)
    slots = torch.full((rows + 2, 2, 3, heads, size), NAN, dtype=dtype, device=DEVICE)
    rope_store.rotate(q, cos, sin, out=queries[1:-1], norm=weight, eps=EPS)
    rope_store.store_kv(kv, cos, sin, out=slots[1:-1, :, 1], norm=weight, eps=EPS)

    for ours, source in ((queries[1:-1], q), (slots[1:-1, 0, 1], kv[:, : heads * size])):
        # Complex numbers have no 16-bit arithmetic: float32 rounded once is the stricter measure.
        plain = rotated(source, cos, sin, weight, size, torch.float32).to(dtype)
        assert_as_good_as_plain(ours, plain, rotated(source, cos, sin, weight, size, torch.float64))
    assert torch.equal(slots[1:-1, 1, 1].flatten(1), kv[:, heads * size :])
    assert queries[[0, -1]].isnan().all()
    assert slots[[0, -1]].isnan().all()
    assert slots[:, :, [0, 2]].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "width"), [(1, 64), (31, 1000), (33, 1536), (127, 96), (129, 1025)])
def test_swiglu(rows: int, width: int, dtype: torch.dtype) -> None:
    x = amid_nan((3 * torch.randn(rows, 2 * width)).to(dtype))
    ours = swiglu.swiglu(x)
    assert ours.shape == (rows, width)
    assert_as_good_as_plain(ours, reference.swiglu(x), reference.swiglu(x.double()))


def test_swiglu_of_huge_gates() -> None:
    """exp overflows where the gate is far below zero; the answer is 0 and not NaN."""
    gate_up = torch.tensor([[-1000.0, 1000.0, 2.0, 3.0]], device=DEVICE)
    assert swiglu.swiglu(gate_up).tolist() == [[0.0, 3000.0]]


def test_no_rows() -> None:
    """A batch may leave nothing to do; launching an empty grid must not fail."""
    empty = torch.empty(0, 64, device=DEVICE)
    assert norm.rms_norm(empty, torch.ones(64, device=DEVICE), EPS).shape == (0, 64)
    assert swiglu.swiglu(empty).shape == (0, 32)


def assert_rows_are_independent(operation: Callable[[torch.Tensor], torch.Tensor], rows: int) -> None:
    """`operation` maps row numbers to results: shuffled, alone and beside other neighbours come the same bits."""
    expected = operation(torch.arange(rows))
    order = torch.randperm(rows)
    assert torch.equal(operation(order), expected[order])
    for row in (0, 7, rows - 1):
        assert torch.equal(operation(torch.tensor([row])), expected[row : row + 1])
        assert torch.equal(operation(torch.tensor([3, 1, row, 3])), expected[[3, 1, row, 3]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_of_a_row_are_its_own(dtype: torch.dtype) -> None:
    rows, heads, size = 33, 3, 80
    x, update = (torch.randn(rows, 2 * heads * size).to(dtype).to(DEVICE) for _ in range(2))
    weight, head_weight = (torch.rand(n).to(dtype).to(DEVICE) for n in (2 * heads * size, size))
    cos, sin = angles_of(rows, size, dtype)

    def rotate(index: torch.Tensor) -> torch.Tensor:
        out = torch.empty(len(index), 2 * heads, size, dtype=dtype, device=DEVICE)
        rope_store.rotate(x[index], cos[index], sin[index], out, head_weight, EPS)
        return out

    def store_kv(index: torch.Tensor) -> torch.Tensor:
        out = torch.empty(len(index), 2, heads, size, dtype=dtype, device=DEVICE)
        rope_store.store_kv(x[index], cos[index], sin[index], out, head_weight, EPS)
        return out

    for operation in (
        lambda index: norm.rms_norm(x[index], weight, EPS),
        lambda index: norm.add_rms_norm(x[index], update[index], weight, EPS),
        lambda index: swiglu.swiglu(x[index]),
        rotate,
        store_kv,
    ):
        assert_rows_are_independent(operation, rows)


def test_the_check_catches_a_variant_operation() -> None:
    """The inverse: sums that are cut where the size of the batch says must fail the check."""
    x = torch.randn(33, 480)

    def variant(index: torch.Tensor) -> torch.Tensor:
        left, right = x[index].tensor_split([100 + len(index)], dim=1)
        return left.sum(1) + right.sum(1)

    with pytest.raises(AssertionError):
        assert_rows_are_independent(variant, 33)
