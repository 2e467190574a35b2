"""Every CPU operation against its oracle in float64: error at most twice that of the oracle in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from preftree.kernels import cpu, isa, reference
from preftree.kernels.cpu import head as cpu_head
from preftree.kernels.tiles import Activation
from tests.kernels.shapes import poisoned_attention_inputs, random_plan, tile_runs, with_sinks

ROWS = (1, 31, 33, 127, 129)
GATES: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": reference.swiglu,
    "gelu_tanh": reference.geglu,
    "clamped_silu": reference.clamped_swiglu,
}
EPS = 1e-5


def assert_as_good_as_plain(
    ours: torch.Tensor, plain: Callable[..., torch.Tensor], *inputs: torch.Tensor | float
) -> None:
    """`plain` in float64 is the truth, `plain` in float32 sets the error that is allowed."""
    exact = plain(*(x.double() if isinstance(x, torch.Tensor) else x for x in inputs))
    allowed = 2 * (plain(*inputs).double() - exact).norm() / exact.norm() + 1e-7
    assert torch.isfinite(ours).all()
    assert (ours.double() - exact).norm() / exact.norm() <= allowed


@pytest.mark.parametrize("rows", ROWS)
def test_linear(rows: int) -> None:
    x, weight, bias = torch.randn(rows, 96), torch.randn(160, 96), torch.randn(160)
    assert_as_good_as_plain(cpu.linear(x, cpu.pack_linear(weight)), reference.linear, x, weight)
    assert_as_good_as_plain(cpu.linear(x, cpu.pack_linear(weight, bias)), reference.linear, x, weight, bias)


def test_linear_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch build without oneDNN must still multiply, and add a bias."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    x, weight, bias = torch.randn(33, 96), torch.randn(160, 96), torch.randn(160)
    packed = cpu.pack_linear(weight, bias)
    assert isinstance(packed, cpu.PackedLinear)
    assert not packed.is_onednn
    assert_as_good_as_plain(cpu.linear(x, packed), reference.linear, x, weight, bias)


@pytest.mark.skipif(not isa.int8_runs(), reason="the processor lacks instructions for products of 8 bits")
@pytest.mark.parametrize("rows", ROWS)
def test_products_of_8_bits(rows: int) -> None:
    """Rows and outputs of very different sizes: a scale for all of them would lose the small ones. Zeros stay zeros."""
    x, weight, bias = torch.randn(rows, 96), torch.randn(160, 96), torch.randn(160)
    x *= torch.logspace(-3, 3, rows).unsqueeze(1)
    weight *= torch.logspace(-3, 3, 160).unsqueeze(1)
    x[-1], weight[-1] = 0, 0
    ours = cpu.linear(x, cpu.pack_linear(weight, bias, quantized="int8"))
    exact = reference.quantized_linear(x.double(), weight.double(), bias.double())
    error = (ours - exact).abs() / (exact.abs() + 1e-3 * exact.abs().amax(1, keepdim=True))
    # A number between two steps may be rounded to the other one.
    assert float((error > 1e-4).double().mean()) < 0.02
    plain = reference.linear(x.double(), weight.double(), bias.double())
    assert (ours - plain).norm() / plain.norm() < 0.02


@pytest.mark.skipif(not isa.int8_runs(), reason="the processor lacks instructions for products of 8 bits")
def test_a_gate_of_8_bits() -> None:
    x, weight = torch.randn(40, 96).bfloat16(), torch.randn(160, 96).bfloat16()
    packed = cpu.pack_gated(weight, quantized="int8")
    for activation, plain in GATES.items():
        ours = cpu.gated(x, packed, activation)
        exact = plain(reference.quantized_linear(x.double(), weight.double()))
        assert ours.dtype == torch.bfloat16
        assert (ours - exact).norm() / exact.norm() < 0.01


@pytest.mark.parametrize("name", ["rms_norm", "layer_norm"])
@pytest.mark.parametrize("rows", ROWS)
def test_norms(rows: int, name: str) -> None:
    alone, added, oracle = getattr(cpu, name), getattr(cpu, f"add_{name}"), getattr(reference, name)
    x, update, weight = torch.randn(rows, 96) + 0.3, torch.randn(rows, 96), torch.randn(96)
    assert_as_good_as_plain(alone(x, weight, 1e-5), oracle, x, weight, 1e-5)
    residual = x.clone()
    normed = added(residual, update, weight, 1e-5)
    assert torch.equal(residual, x + update), "the residual is updated in place"
    assert_as_good_as_plain(normed, oracle, x + update, weight, 1e-5)


def test_a_wide_norm_weight_keeps_its_digits() -> None:
    """Catches 1 + weight rounded to 16 bits, or a product rounded twice, in norms whose weights are float32."""
    x, weight = torch.randn(33, 96).bfloat16(), 1 + torch.randn(96) / 300
    exact = reference.rms_norm(x.double(), weight.double(), EPS)
    normed = cpu.rms_norm(x, weight, EPS)
    assert normed.dtype == torch.bfloat16
    assert ((normed.double() - exact).abs() <= exact.abs() * 2**-8).all(), "rounded once"


@pytest.mark.parametrize("is_normed", [False, True])
@pytest.mark.parametrize("rows", ROWS)
def test_queries_keys_and_values(rows: int, is_normed: bool) -> None:
    """Queries rotate, keys rotate into their slots, values are copied; every element is written (NaN).

    A norm comes before the rotation, which its uneven weights would show, and leaves values alone.
    """
    heads, size = 3, 32
    norm = torch.rand(size) + 0.5 if is_normed else None
    angles = torch.rand(rows, size // 2) * 100
    projected = torch.randn(rows, 2 * heads * size)

    def plain(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        out = torch.empty(rows, 2, heads, size, dtype=x.dtype)
        reference.store_kv(x, cos, sin, out, None if norm is None else norm.to(x.dtype), EPS)
        return out

    kv = torch.full((rows, 2, heads, size), float("nan"))
    cpu.store_kv(projected, angles.cos(), angles.sin(), out=kv, norm=norm, eps=EPS)
    assert_as_good_as_plain(kv, plain, projected, angles.cos(), angles.sin())
    queries = torch.full((rows, heads, size), float("nan"))
    cpu.rotate(projected[:, : heads * size].contiguous(), angles.cos(), angles.sin(), out=queries, norm=norm, eps=EPS)
    assert torch.equal(queries, kv[:, 0])
    assert torch.equal(kv[:, 1].flatten(1), projected[:, heads * size :])


@pytest.mark.parametrize("rows", ROWS)
def test_swiglu(rows: int) -> None:
    x = torch.randn(rows, 2 * 80)
    assert_as_good_as_plain(cpu.swiglu(x), reference.swiglu, x)
    assert_as_good_as_plain(cpu.geglu(x), reference.geglu, x)
    assert_as_good_as_plain(cpu.clamped_swiglu(4 * x), reference.clamped_swiglu, 4 * x)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gated(dtype: torch.dtype, has_bias: bool) -> None:
    """Gate and up in one product or apart: float32 inside, rounded once at most between them."""
    x, weight, bias = (tensor.to(dtype) for tensor in (torch.randn(40, 96), torch.randn(160, 96), torch.randn(160)))
    packed = cpu.pack_gated(weight, bias if has_bias else None)
    gate_up = reference.linear(x.double(), weight.double(), bias.double() if has_bias else None)
    for activation, plain in GATES.items():
        exact = plain(gate_up)
        ours = cpu.gated(x, packed, activation, row_block=16)
        assert ours.dtype == dtype
        assert (ours - exact).norm() / exact.norm() < {torch.float32: 1e-6, torch.bfloat16: 4e-3}[dtype]


@pytest.mark.parametrize("rows", ROWS)
def test_rotation_in_16_bits(rows: int) -> None:
    """Float32 inside: the result is rounded once."""
    angles, x = torch.rand(rows, 16) * 100, torch.randn(rows, 96).bfloat16()
    exact, ours = torch.empty(rows, 3, 32, dtype=torch.float64), torch.empty(rows, 3, 32, dtype=torch.bfloat16)
    reference.rotate(x.double(), angles.cos().double(), angles.sin().double(), exact)
    cpu.rotate(x, angles.cos(), angles.sin(), out=ours)
    assert ((ours - exact).abs() <= exact.abs() * 2**-8 + 1e-6).all()


@pytest.mark.parametrize("is_normalised", [False, True])
def test_routes(is_normalised: bool) -> None:
    """Catches other experts than the likeliest, and weights that are not those of the chosen ones."""
    logits = torch.randn(40, 9)
    weights, chosen = cpu.route(logits, 3, is_normalised)
    expected, order = reference.route(logits.double(), 3, is_normalised)
    assert torch.equal(chosen, order)
    torch.testing.assert_close(weights.double(), expected, rtol=1e-5, atol=1e-6)


OPTIONS = [
    {"scale": 0.7},
    {"softcap": 1.5},
    *({"window": window} for window in (1, 15, 16, 17, 50, 1000)),
    {"scale": 0.3, "window": 20, "softcap": 2.0},
    {"sinks": True},
    {"scale": 0.7, "window": 15, "sinks": True},
    {"softcap": 2.0, "sinks": True},
]


@pytest.mark.parametrize(
    ("heads_per_kv", "longest", "options"),
    [
        *((heads, longest, {}) for heads in (1, 3, 4, 8) for longest in (1, 15, 16, 17, 130)),
        *((3, 100, options) for options in OPTIONS),
    ],
)
def test_tree_attention(heads_per_kv: int, longest: int, options: dict[str, Any]) -> None:
    """No unwritten slot is read (NaN), no tile is left out, in place as the model calls it, over several runs.

    Windows end inside a block of depths, at its bounds, and beyond every path. A sink is its own head's.
    """
    options = with_sinks(options, 2 * heads_per_kv)
    trie, plan = random_plan(longest + heads_per_kv, count=5, longest=longest)
    queries, kv = poisoned_attention_inputs(plan, trie.num_rows, 2 * heads_per_kv, 2, 16, seed=1)
    wide = [torch.full_like(queries, float("nan"), dtype=dtype) for dtype in (torch.float64, torch.float32)]
    for out in wide:
        reference.tree_attention(queries.to(out.dtype), kv.to(out.dtype), tile_runs(plan.tiles), out, **options)
    exact, plain = (out[: trie.num_rows] for out in wide)
    cpu.tree_attention(queries, kv, tile_runs(plan.tiles), out=queries, **options)
    ours = queries[: trie.num_rows]
    assert torch.isfinite(exact).all(), "every row of the trie is in a tile"
    assert (ours - exact).norm() / exact.norm() <= 2 * (plain - exact).norm() / exact.norm() + 1e-7


@pytest.mark.parametrize(
    "options", [{}, {"window": 20}, {"window": 550}, {"softcap": 2.0}, {"window": 550, "sinks": True}], ids=str
)
def test_tree_attention_over_many_kv_blocks(options: dict[str, Any]) -> None:
    """Paths longer than torch's own key block (512)."""
    trie, plan = random_plan(5, count=1, longest=600)
    queries, kv = poisoned_attention_inputs(plan, trie.num_rows, 1, 1, 16, seed=2)
    exact, options = torch.empty_like(queries, dtype=torch.float64), with_sinks(options, 1)
    reference.tree_attention(queries.double(), kv.double(), tile_runs(plan.tiles), exact, **options)
    cpu.tree_attention(queries, kv, tile_runs(plan.tiles), out=queries, **options)
    torch.testing.assert_close(queries[: trie.num_rows].double(), exact[: trie.num_rows], rtol=1e-5, atol=1e-6)


def test_a_window_skips_keys_that_no_row_sees() -> None:
    """Catches windows that are but a mask: as many keys as the library takes at a time, before any is seen (NaN)."""
    trie, plan = random_plan(5, count=1, longest=1200)
    queries, kv = poisoned_attention_inputs(plan, trie.num_rows, 1, 1, 16, seed=2)
    run = next(run for run in tile_runs(plan.tiles) if run.tiles[0].first_depth >= 1100)
    kv[run.tiles[0].slots[1:1024]] = float("nan")  # depths beyond a branch repeat the slot of depth 0
    cpu.tree_attention(queries, kv, (run,), out=queries, window=20)
    for tile in run.tiles:
        assert torch.isfinite(queries[tile.first_row : tile.first_row + tile.rows]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scalar_head(dtype: torch.dtype) -> None:
    """Catches a sum in the weight's own type, and numbers of other rows than those asked for."""
    hidden, weight, rows = torch.randn(64, 96), torch.randn(1, 96).to(dtype), torch.tensor([63, 0, 5, 5, 40])
    found = cpu.scalar_head(hidden, weight, rows)
    assert found.dtype == torch.float32
    exact = reference.scalar_head(hidden.double(), weight.double(), rows)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_head_in_float32_keeps_its_memory_and_its_bits(rows: int) -> None:
    """Catches a copy of a tied embedding, another sum than that of a packed matrix, and a lone row with other bits."""
    hidden, weight = torch.randn(32, 96), torch.randn(2 * cpu_head.VOCAB_BLOCK, 96)
    head = cpu.pack_head(weight)
    assert [block.weight.data_ptr() for block in head] == [block.data_ptr() for block in weight.chunk(2)]
    packed = cpu.linear(hidden, cpu.pack_linear(weight))
    assert torch.equal(cpu.token_logits(hidden[:rows], head), packed[:rows])


@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize(("rows", "dtype"), [(8, torch.float32), (40, torch.float32), (40, torch.bfloat16)])
def test_label_head(rows: int, dtype: torch.dtype, softcap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens in the first, a middle and the last (partial) vocabulary block."""
    monkeypatch.setattr(cpu_head, "VOCAB_BLOCK", 64)
    monkeypatch.setattr(cpu_head, "FINAL_ROW_BLOCK", 8)
    hidden, weight = torch.randn(rows, 96).to(dtype), torch.randn(200, 96).to(dtype)
    query_rows = torch.arange(rows).repeat(3)
    query_tokens = torch.cat([torch.zeros(rows), torch.randint(0, 200, (rows,)), torch.full((rows,), 199)]).long()
    logits, normaliser = cpu.label_head(hidden, cpu.pack_head(weight), query_rows, query_tokens, softcap=softcap)
    exact = reference.label_head(hidden.double(), weight.double(), query_rows, query_tokens, softcap)
    torch.testing.assert_close((logits.double(), normaliser.double()), exact, rtol=1e-5, atol=1e-4)


Layers = list[tuple[torch.Tensor, torch.Tensor | None]]


def in_float64(layers: Layers) -> Layers:
    return [(weight.double(), None if bias is None else bias.double()) for weight, bias in layers]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_experts(dtype: torch.dtype) -> None:
    """Catches rows of another expert, padding that is taken for rows, and weights of other rows."""
    rows, hidden, width, count = 70, 96, 40, 5
    gate_ups: Layers = [(torch.randn(2 * width, hidden).to(dtype) / 8, None) for _ in range(count)]
    downs: Layers = [(torch.randn(hidden, width).to(dtype) / 8, None) for _ in range(count)]
    x, (weights, chosen) = torch.randn(rows, hidden).to(dtype), cpu.route(torch.randn(rows, count), 2, False)
    pairs, products = cpu.sort_by_expert(weights, chosen, count), torch.full((2 * rows, hidden), float("nan")).to(dtype)
    cpu.expert_products(x, pairs, cpu.pack_experts(gate_ups, downs, count), "silu", products, 32)
    ours = cpu.combine_experts(products, pairs)
    exact = reference.mixture(
        x.double(), weights.double(), chosen, in_float64(gate_ups), in_float64(downs), reference.swiglu
    )
    assert (ours - exact).norm() / exact.norm() < 3 * torch.finfo(dtype).eps
