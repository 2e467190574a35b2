"""Norm, rotary embedding and SwiGLU in Triton against their oracles, on a GPU or else in Triton's interpreter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from preftree.kernels import cpu, gated, norm, qkv_store, reference, rope_store
from tests.kernels.on_device import (
    CUT_OFF,
    DEVICE,
    DTYPES,
    amid_nan,
    assert_as_good_as_plain,
    free_bytes,
    gpu_if_there,
    needs_gpu,
)

Norm = Callable[..., torch.Tensor]
NAN = float("nan")
EPS = 1e-5

pytestmark = [*gpu_if_there, pytest.mark.usefixtures("poisoned_allocations")]


def assert_surroundings_untouched(x: torch.Tensor) -> None:
    buffer = x._base
    assert buffer is not None
    assert buffer[0].isnan().all()
    assert buffer[-1].isnan().all()


NORMS = [
    (norm.rms_norm, norm.add_rms_norm, reference.rms_norm),
    (norm.layer_norm, norm.add_layer_norm, reference.layer_norm),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "hidden"), [(1, 64), (31, 96), (33, 576), (127, 1000), (129, 64), (2, 16384)])
@pytest.mark.parametrize(("alone", "added", "oracle"), NORMS, ids=["rms_norm", "layer_norm"])
def test_norms(rows: int, hidden: int, dtype: torch.dtype, alone: Norm, added: Norm, oracle: Norm) -> None:
    x, update = (amid_nan((torch.randn(rows, hidden) + 0.3).to(dtype)) for _ in range(2))
    weight = amid_nan((torch.rand(1, hidden) + 0.5).to(dtype))[0]
    plain, exact = (oracle(x.to(t), weight.to(t), EPS) for t in (dtype, torch.float64))
    assert_as_good_as_plain(alone(x, weight, EPS), plain, exact)

    total = x + update
    normed = added(x, update, weight, EPS)
    if dtype == CUT_OFF:
        torch.testing.assert_close(x, total)
    else:
        assert torch.equal(x, total), "the residual is updated in place"
    plain, exact = (oracle(x.to(t), weight.to(t), EPS) for t in (dtype, torch.float64))
    assert_as_good_as_plain(normed, plain, exact)
    assert normed.dtype == dtype
    assert_surroundings_untouched(x)


def test_a_row_too_long_for_one_program_is_refused() -> None:
    x = torch.ones(1, norm.MAX_HIDDEN + 1, device=DEVICE)
    with pytest.raises(AssertionError, match="16385"):
        norm.rms_norm(x, x[0], EPS)


def test_rows_that_begin_anywhere_are_refused() -> None:
    """The JIT would load them in narrower pieces and sum them in another order."""
    x = torch.ones(2, 65, device=DEVICE).flatten()[1:65].unsqueeze(0)
    with pytest.raises(AssertionError, match="16 bytes"):
        norm.rms_norm(x, torch.ones(64, device=DEVICE), EPS)


def angles_of(rows: int, size: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.rand(rows, size // 2) * 100
    return amid_nan(angles.cos().to(dtype)), amid_nan(angles.sin().to(dtype))


def rotated(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, weight: torch.Tensor | None, size: int, dtype: torch.dtype
) -> torch.Tensor:
    """The oracle in `dtype`."""
    x = x.to(dtype).contiguous()
    out = torch.empty(len(x), x.shape[1] // size, size, dtype=dtype, device=x.device)
    norm = None if weight is None else weight.to(dtype)
    reference.rotate(x, cos.to(dtype), sin.to(dtype), out, norm, EPS)
    return out


def test_keys_and_values_go_to_their_slots() -> None:
    """Scattered, as decode steps write them; other slots stay as they are. Bits are those of rows in order."""
    rows, size, heads = 37, 64, 3
    x, (cos, sin) = torch.randn(rows, 2 * heads * size, device=DEVICE), angles_of(rows, size, torch.float32)
    places = torch.randperm(2 * rows, device=DEVICE)[:rows]
    scattered = torch.full((2 * rows, 2, heads, size), NAN, device=DEVICE)
    rope_store.store_kv(x, cos, sin, out=scattered, slots=places)
    in_order = torch.full((rows, 2, heads, size), NAN, device=DEVICE)
    rope_store.store_kv(x, cos, sin, out=in_order)
    assert torch.equal(scattered[places], in_order)
    assert int(scattered.isnan().flatten(1).all(1).sum()) == rows


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


@pytest.mark.parametrize("has_slots", [False, True])
@pytest.mark.parametrize("is_normed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "size", "heads", "kv_heads"), [(1, 64, 3, 1), (31, 80, 5, 5), (37, 128, 4, 2), (9, 256, 2, 1)]
)
def test_one_pass_for_queries_keys_and_values(
    rows: int, size: int, heads: int, kv_heads: int, dtype: torch.dtype, is_normed: bool, has_slots: bool
) -> None:
    """Catches heads that take the other kind's place, angles or norm, and bits that two launches would not give."""
    x = amid_nan(torch.randn(rows, (heads + 2 * kv_heads) * size).to(dtype))
    of_queries, of_keys = angles_of(rows, size, dtype), angles_of(rows, size, dtype)
    weights = tuple(amid_nan((torch.rand(1, size) + 0.5).to(dtype))[0] for _ in range(2))
    norms = (weights[0], weights[1]) if is_normed else None
    places = torch.randperm(2 * rows, device=DEVICE)[:rows] if has_slots else None

    def buffers(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        shapes = (rows + 2, heads, size), ((2 * rows if has_slots else rows) + 2, 2, kv_heads, size)
        queries, kv = (torch.full(shape, NAN, dtype=dtype, device=DEVICE) for shape in shapes)
        return queries, kv

    def oracle(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        queries, kv = buffers(dtype)
        wide = [tuple(one.to(dtype) for one in some) for some in (of_queries, of_keys, norms or ())]
        of = (wide[2][0], wide[2][1]) if is_normed else None
        angles = (wide[0][0], wide[0][1]), (wide[1][0], wide[1][1])
        reference.store_qkv(x.to(dtype), *angles, queries[1:-1], kv[1:-1], of, EPS, places)
        return queries, kv

    ours, apart = buffers(dtype), buffers(dtype)
    qkv_store.store_qkv(x, of_queries, of_keys, ours[0][1:-1], ours[1][1:-1], norms, EPS, places)
    q, kv = x.tensor_split([heads * size], dim=1)
    q_norm, k_norm = norms or (None, None)
    rope_store.rotate(q, *of_queries, out=apart[0][1:-1], norm=q_norm, eps=EPS)
    rope_store.store_kv(kv, *of_keys, out=apart[1][1:-1], norm=k_norm, eps=EPS, slots=places)
    for found, two_launches, plain, exact in zip(
        ours, apart, oracle(torch.float32), oracle(torch.float64), strict=True
    ):
        assert torch.equal(found.nan_to_num(7.0), two_launches.nan_to_num(7.0))
        written = ~exact.isnan()
        assert torch.equal(written, ~found.isnan()), "and nothing else"
        assert_as_good_as_plain(found[written], plain[written].to(dtype), exact[written])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "spread", "rows", "width"),
    [
        *(("swiglu", 3, rows, width) for rows, width in ((1, 64), (33, 1536), (127, 96), (129, 1025))),
        *((name, spread, 31, 1000) for name, spread in (("geglu", 3), ("clamped_swiglu", 6))),
        *((name, spread, 129, 1025) for name, spread in (("geglu", 3), ("clamped_swiglu", 6))),
    ],
)
def test_gates(name: str, spread: int, rows: int, width: int, dtype: torch.dtype) -> None:
    """Catches rows and columns at the edges of blocks; a gate that is clamped below, a limit that one of two has."""
    x = amid_nan((spread * torch.randn(rows, 2 * width)).to(dtype))
    ours, oracle = getattr(gated, name)(x), getattr(reference, name)
    assert ours.dtype == dtype
    assert_as_good_as_plain(ours, oracle(x), oracle(x.double()))


@pytest.mark.parametrize("clamped", [gated.clamped_swiglu, cpu.clamped_swiglu])
def test_a_limit_lets_nan_through(clamped: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Catches a minimum that takes 7 for a NaN, which would hide a broken model."""
    gate_up = torch.tensor([[NAN, 1.0, NAN, 1.0, NAN, NAN]], device=DEVICE)
    assert clamped(gate_up).isnan().all()


def test_geglu_far_from_zero() -> None:
    """Where exp overflows, tanh is one."""
    gate_up = torch.tensor([[-1000.0, 1000.0, 2.0, 3.0]], device=DEVICE)
    assert gated.geglu(gate_up).tolist() == [[0.0, 3000.0]]


def test_swiglu_of_huge_gates() -> None:
    """exp overflows where the gate is far below zero; the answer is 0 and not NaN."""
    gate_up = torch.tensor([[-1000.0, 1000.0, 2.0, 3.0]], device=DEVICE)
    assert gated.swiglu(gate_up).tolist() == [[0.0, 3000.0]]


def test_no_rows() -> None:
    """A batch may leave nothing to do; launching an empty grid must not fail."""
    empty = torch.empty(0, 64, device=DEVICE)
    assert norm.rms_norm(empty, torch.ones(64, device=DEVICE), EPS).shape == (0, 64)
    assert gated.swiglu(empty).shape == (0, 32)


def assert_rows_are_independent(operation: Callable[[torch.Tensor], torch.Tensor], rows: int) -> None:
    """`operation` maps row numbers to results: shuffled, alone and beside other neighbours come the same bits."""
    expected = operation(torch.arange(rows, device=DEVICE))
    order = torch.randperm(rows).to(DEVICE)
    assert torch.equal(operation(order), expected[order])
    for row in (0, 7, rows - 1):
        assert torch.equal(operation(torch.tensor([row], device=DEVICE)), expected[row : row + 1])
        among_others = torch.tensor([3, 1, row, 3], device=DEVICE)
        assert torch.equal(operation(among_others), expected[among_others])


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_of_a_row_are_its_own(dtype: torch.dtype) -> None:
    rows, heads, size = 33, 3, 80
    x, update = (torch.randn(rows, 2 * heads * size).to(DEVICE, dtype) for _ in range(2))
    weight, head_weight = (torch.rand(n).to(DEVICE, dtype) for n in (2 * heads * size, size))
    cos, sin = angles_of(rows, size, dtype)

    def rotate(index: torch.Tensor) -> torch.Tensor:
        out = torch.empty(len(index), 2 * heads, size, dtype=dtype, device=DEVICE)
        rope_store.rotate(x[index], cos[index], sin[index], out, head_weight, EPS)
        return out

    def store_kv(index: torch.Tensor) -> torch.Tensor:
        out = torch.empty(len(index), 2, heads, size, dtype=dtype, device=DEVICE)
        rope_store.store_kv(x[index], cos[index], sin[index], out, head_weight, EPS)
        return out

    def store_qkv(index: torch.Tensor) -> torch.Tensor:
        both = torch.empty(2, len(index), heads, size, dtype=dtype, device=DEVICE)
        kv, angles = torch.empty(len(index), 2, 1, size, dtype=dtype, device=DEVICE), (cos[index], sin[index])
        own = x[index, : (heads + 2) * size].contiguous()
        qkv_store.store_qkv(own, angles, angles, both[0], kv, (head_weight, head_weight), EPS)
        return torch.cat([both[0].flatten(1), kv.flatten(1)], 1)

    for operation in (
        lambda index: norm.rms_norm(x[index], weight, EPS),
        lambda index: norm.add_rms_norm(x[index], update[index], weight, EPS),
        lambda index: norm.layer_norm(x[index], weight, EPS),
        lambda index: norm.add_layer_norm(x[index], update[index], weight, EPS),
        lambda index: gated.swiglu(x[index]),
        lambda index: gated.clamped_swiglu(x[index]),
        rotate,
        store_kv,
        store_qkv,
    ):
        assert_rows_are_independent(operation, rows)


def test_the_check_catches_a_variant_operation() -> None:
    """The inverse: sums that are cut where the size of the batch says must fail the check."""
    x = torch.randn(33, 480).to(DEVICE)

    def variant(index: torch.Tensor) -> torch.Tensor:
        left, right = x[index].tensor_split([100 + len(index)], dim=1)
        return left.sum(1) + right.sum(1)

    with pytest.raises(AssertionError):
        assert_rows_are_independent(variant, 33)


@needs_gpu
@pytest.mark.gpu
def test_batches_of_more_elements_than_32_bits_count() -> None:
    """Offsets of the last rows exceed 2^31: whoever computes them in 32 bits writes elsewhere, or crashes."""
    rows, width, heads, size = 2**31 // 28672 + 3000, 14336, 224, 128
    if free_bytes() < 24e9:
        pytest.skip("needs 24 GB of free memory")
    last = slice(rows - 5, rows)
    wide = torch.empty(rows, 2 * width, dtype=torch.bfloat16, device=DEVICE)
    wide[last] = torch.randn(5, 2 * width).to(DEVICE)
    few = wide[last].clone()
    assert torch.equal(gated.swiglu(wide)[last], gated.swiglu(few))

    cos, sin = (torch.empty(rows, size // 2, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    cos[last], sin[last] = angles_of(5, size, torch.bfloat16)
    outs = [torch.empty(n, heads, size, dtype=torch.bfloat16, device=DEVICE) for n in (rows, 5)]
    for x, c, s, out in ((wide, cos, sin, outs[0]), (few, cos[last], sin[last], outs[1])):
        rope_store.rotate(x, c, s, out)
    assert torch.equal(outs[0][last], outs[1])

    # The norm's rows are at most 16384 long: another view of the same memory.
    long = wide.flatten()[: rows * width * 2 // 16384 * 16384].view(-1, 16384)
    last = slice(len(long) - 5, len(long))
    weight = torch.ones(16384, dtype=torch.bfloat16, device=DEVICE)
    few = long[last].clone()
    assert torch.equal(norm.rms_norm(long, weight, EPS)[last], norm.rms_norm(few, weight, EPS))
