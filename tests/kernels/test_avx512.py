"""The compiled operations for bfloat16 against their oracles in float64, on both kinds of product."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from preftree.kernels import avx512, cpu, isa, ops, reference
from preftree.kernels.avx512 import head as head_module
from preftree.kernels.avx512 import library
from preftree.kernels.avx512 import products as products_module
from preftree.kernels.avx512.head import Head
from preftree.kernels.quantized.types import Quantized
from preftree.kernels.tiles import Activation, PathTiles
from tests.kernels.shapes import (
    LAYOUT,
    PATH_LAYOUT,
    needs_avx512,
    poisoned_attention_inputs,
    random_plan,
    tile_runs,
    with_sinks,
)
from tests.kernels.test_cpu import EPS, GATES, OPTIONS, ROWS, Layers, in_float64

pytestmark = needs_avx512
ROUNDING = 2**-8  # of a number of bfloat16


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Bounds are of what numbers usually add up to, which a few draws in a hundred exceed."""
    torch.manual_seed(0)


@pytest.fixture(params=["amx", "avx512_bf16"])
def products(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not isa.runs(request.param):
        pytest.skip(f"the processor lacks {request.param}")
    for module in (avx512, products_module, head_module):
        monkeypatch.setattr(module, "prefers_amx", lambda: request.param == "amx")


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize(
    ("heads_per_kv", "size", "longest", "options"),
    [
        *((heads, 64, longest, {}) for heads in (1, 3, 8, 40) for longest in (1, 31, 32, 33, 130)),
        *((3, size, 70, {}) for size in (16, 40, 80, 96, 128, 256)),
        *((3, 64, 100, options) for options in OPTIONS),
        *((1, 64, 700, {"window": window}) for window in (20, 600)),
    ],
    ids=str,
)
def test_tree_attention(heads_per_kv: int, size: int, longest: int, options: dict[str, Any]) -> None:
    """No unwritten slot is read (NaN), no tile is left out, in place as the model calls it, over several chunks."""
    options = with_sinks(options, 2 * heads_per_kv)
    trie, plan = random_plan(longest + heads_per_kv, count=5, longest=longest, layout=PATH_LAYOUT)
    inputs = poisoned_attention_inputs(plan, trie.num_rows, 2 * heads_per_kv, 2, size, seed=1)
    queries, kv = (tensor.bfloat16() for tensor in inputs)
    exact = torch.full_like(queries, float("nan"), dtype=torch.float64)
    _, same_plan = random_plan(longest + heads_per_kv, count=5, longest=longest, layout=LAYOUT)
    reference.tree_attention(queries.double(), kv.double(), tile_runs(same_plan.tiles), exact, **options)
    avx512.tree_attention(queries, kv, paths(plan.tiles), out=queries, **options)
    ours, exact = queries[: trie.num_rows].double(), exact[: trie.num_rows]
    assert torch.isfinite(exact).all()
    # Probabilities and the result are rounded.
    assert (ours - exact).norm() / exact.norm() < 0.8 * ROUNDING
    assert ((ours - exact).abs() <= ROUNDING * (1 + exact.abs())).all()


def paths(tiles: object) -> tuple[PathTiles, ...]:
    assert isinstance(tiles, tuple)
    return tiles


def test_a_window_skips_keys_that_no_row_sees() -> None:
    trie, plan = random_plan(5, count=1, longest=700, layout=PATH_LAYOUT)
    queries, kv = (one.bfloat16() for one in poisoned_attention_inputs(plan, trie.num_rows, 1, 1, 16, seed=2))
    tiles = next(tiles for tiles in paths(plan.tiles) if int(tiles.first_depth[0]) >= 600)
    kv[tiles.slots[tiles.path[0] :][:512].long()] = float("nan")
    avx512.tree_attention(queries, kv, (tiles,), out=queries, window=20)
    first, rows = int(tiles.first_row[0]), int(tiles.num_rows[0])
    assert torch.isfinite(queries[first : first + rows]).all()


@pytest.mark.parametrize("name", ["rms_norm", "layer_norm"])
@pytest.mark.parametrize("width", [96, 576, 1000])
@pytest.mark.parametrize("rows", ROWS)
def test_norms(rows: int, width: int, name: str) -> None:
    """The residual stream stays float32; the result is rounded once."""
    x, update, weight = torch.randn(rows, width) + 0.3, torch.randn(rows, width).bfloat16(), torch.randn(width)
    residual = x.clone()
    normed = getattr(avx512, f"add_{name}")(residual, update, weight, EPS)
    assert torch.equal(residual, x + update)
    exact = getattr(reference, name)((x + update).double(), weight.double(), EPS)
    assert_rounded_once(normed, exact)
    assert torch.equal(getattr(avx512, name)(residual, weight, EPS, torch.bfloat16), normed)


@pytest.mark.parametrize("size", [32, 64, 80])
@pytest.mark.parametrize("is_normed", [False, True])
@pytest.mark.parametrize("rows", ROWS)
def test_queries_keys_and_values(rows: int, is_normed: bool, size: int) -> None:
    """Queries rotate, keys rotate into their slots, values are copied; every element is written (NaN)."""
    heads = 3
    norm = torch.rand(size) + 0.5 if is_normed else None
    angles = torch.rand(rows, size // 2) * 100
    cos, sin = angles.cos(), angles.sin()
    projected, slots = torch.randn(rows, 2 * heads * size).bfloat16(), torch.randperm(rows)
    exact = torch.empty(rows, 2, heads, size, dtype=torch.float64)
    wide_norm = None if norm is None else norm.double()
    reference.store_kv(projected.double(), cos.double(), sin.double(), exact, wide_norm, EPS, slots)
    kv = torch.full((rows, 2, heads, size), float("nan"), dtype=torch.bfloat16)
    avx512.store_kv(projected, cos, sin, out=kv, norm=norm, eps=EPS, slots=slots)
    assert_rounded_once(kv, exact)
    queries = torch.full((rows, heads, size), float("nan"), dtype=torch.bfloat16)
    avx512.rotate(projected[:, : heads * size], cos, sin, out=queries, norm=norm, eps=EPS)
    assert torch.equal(queries, kv[slots, 0])
    in_order = torch.empty_like(kv)
    avx512.store_kv(projected, cos, sin, out=in_order, norm=norm, eps=EPS)
    assert torch.equal(in_order, kv[slots])


SHAPES = [(64, 48), (90, 200), (576, 576), (1536, 96)]


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("rows", [1, 32, 70])
def test_products_of_8_bits(rows: int, inputs: int, outputs: int, has_bias: bool) -> None:
    """Rows and outputs of very different sizes. Zeros stay zeros."""
    x, weight, bias = torch.randn(rows, inputs).bfloat16(), torch.randn(outputs, inputs), torch.randn(outputs)
    x *= torch.logspace(-3, 3, rows).unsqueeze(1)
    weight *= torch.logspace(-3, 3, outputs).unsqueeze(1)
    x[-1] = 0
    ours = avx512.linear(x, avx512.pack_linear(weight, bias if has_bias else None, quantized="int8"))
    exact = reference.quantized_linear(x.double(), weight.double(), bias.double() if has_bias else None)
    error = (ours - exact).abs() / (exact.abs() + 1e-2 * exact.abs().amax(1, keepdim=True)).clamp(min=1e-30)
    # A number between two steps may be rounded to the other one.
    assert float((error > ROUNDING).double().mean()) < 0.02
    assert torch.equal(ours[-1], (bias if has_bias else torch.zeros(outputs)).bfloat16())


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
@pytest.mark.parametrize("rows", [32, 96])
def test_products_of_16_bits(rows: int, inputs: int, outputs: int, has_bias: bool) -> None:
    x, weight, bias = (torch.randn(*shape).bfloat16() for shape in ((rows, inputs), (outputs, inputs), (outputs,)))
    ours = avx512.linear(x, avx512.pack_linear(weight, bias if has_bias else None), 32)
    exact = reference.linear(x.double(), weight.double(), bias.double() if has_bias else None)
    assert_rounded_once(ours, exact, 1e-4)


@pytest.mark.parametrize("quantized", [None, "int8"])
def test_products_agree_in_every_bit(quantized: Quantized | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows alone, in another order and beside others; sums of 8 bits also on AMX and without."""
    x, weight = torch.randn(96, 576).bfloat16(), torch.randn(640, 576).bfloat16()
    found = []
    for has_amx in [True, False] if isa.runs("amx") and quantized else [isa.runs("amx")]:
        monkeypatch.setattr(products_module, "prefers_amx", lambda has_amx=has_amx: has_amx)
        packed = avx512.pack_gated(weight, quantized=quantized)
        everything = avx512.gated(x, packed, "silu", 32)
        order = torch.randperm(96)
        assert torch.equal(avx512.gated(x[order], packed, "silu", 32), everything[order])
        assert torch.equal(avx512.gated(x[32:64], packed, "silu", 32), everything[32:64])
        found.append(everything)
    assert all(torch.equal(one, found[0]) for one in found)


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("quantized", [None, "int8"])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("inputs", "width"), [(64, 16), (576, 320), (96, 25), (90, 48)])
def test_gates(inputs: int, width: int, has_bias: bool, quantized: Quantized | None) -> None:
    """From the steep middle of the activations to both ends. Other widths than sixteens go to `kernels.cpu`."""
    x = torch.randn(64, inputs).bfloat16() * torch.logspace(-2, 1, 64).unsqueeze(1).bfloat16()
    weight, bias = torch.randn(2 * width, inputs).bfloat16() / 8, torch.randn(2 * width).bfloat16()
    plain = reference.quantized_linear if quantized else reference.linear
    gate_up = plain(x.double(), weight.double(), bias.double() if has_bias else None)
    packed = avx512.pack_gated(weight, bias if has_bias else None, quantized=quantized)
    for activation, of in GATES.items():
        ours, exact = avx512.gated(x, packed, activation, 32), of(gate_up)
        assert ours.dtype == torch.bfloat16
        assert (ours - exact).norm() / exact.norm() < (0.01 if quantized else 2 * ROUNDING)


def experts_of(count: int, outputs: int, inputs: int) -> Layers:
    return [(torch.randn(outputs, inputs).bfloat16() / 8, torch.randn(outputs).bfloat16()) for _ in range(count)]


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("activation", GATES)
@pytest.mark.parametrize(("hidden", "width"), [(96, 48), (90, 25)])
def test_experts(hidden: int, width: int, activation: Activation) -> None:
    """Catches rows of another expert, sums that leave out the last numbers of a row, and weights of other rows."""
    rows, count = 70, 5
    gate_ups, downs = experts_of(count, 2 * width, hidden), experts_of(count, hidden, width)
    x, (weights, chosen) = torch.randn(rows, hidden).bfloat16(), avx512.route(torch.randn(rows, count), 2, False)
    pairs = avx512.sort_by_expert(weights, chosen, count)
    products = torch.full((2 * rows, hidden), float("nan")).bfloat16()
    avx512.expert_products(x, pairs, avx512.pack_experts(gate_ups, downs, count), activation, products, 32)
    ours = avx512.combine_experts(products, pairs)
    wide = in_float64(gate_ups), in_float64(downs)
    exact = reference.mixture(x.double(), weights.double(), chosen, *wide, GATES[activation])
    assert (ours - exact).norm() / exact.norm() < 3 * ROUNDING
    assert torch.equal(avx512.combine_experts(products, pairs.of_rows(slice(7, 9))), ours[7:9])


def test_a_nan_is_not_quantized_away() -> None:
    x = torch.randn(8, 192).bfloat16()
    x[3, 4], x[5, 70] = float("nan"), float("inf")
    found = torch.isfinite(avx512.linear(x, avx512.pack_linear(torch.randn(40, 192), quantized="int8")))
    assert found.any(1).tolist() == [True, True, True, False, True, False, True, True]


def test_a_limit_lets_nan_through() -> None:
    """Catches a minimum that takes 7 for a NaN, which would hide a broken model."""
    packed = avx512.pack_gated(torch.eye(32).bfloat16(), torch.tensor([float("nan"), *[0.0] * 30, float("nan")]))
    found = avx512.gated(torch.ones(32, 32).bfloat16(), packed, "clamped_silu")
    assert found[0].isnan().nonzero().flatten().tolist() == [0, 15]


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize(("rows", "inputs", "vocabulary"), [(8, 96, 200), (40, 576, 32), (70, 64, 1000), (8, 90, 200)])
def test_label_head(rows: int, inputs: int, vocabulary: int, softcap: float | None) -> None:
    """Tokens in the first, a middle and the last (partial) block; hidden states in float32 keep their digits."""
    hidden, weight = torch.randn(rows, inputs), torch.randn(vocabulary, inputs).bfloat16()
    query_rows = torch.arange(rows).repeat(3)
    last = torch.full((rows,), vocabulary - 1)
    query_tokens = torch.cat([torch.zeros(rows), torch.randint(0, vocabulary, (rows,)), last]).long()
    head = avx512.pack_head(weight)
    assert weight.data_ptr() == head.weight.data_ptr() if isinstance(head, Head) else inputs % 32
    found = avx512.label_head(hidden, head, query_rows, query_tokens, softcap=softcap)
    exact = reference.label_head(hidden.double(), weight.double(), query_rows, query_tokens, softcap)
    torch.testing.assert_close(tuple(one.double() for one in found), exact, rtol=1e-5, atol=2e-4)
    everything = avx512.token_logits(hidden, head)
    exact_logits = reference.linear(hidden.double(), weight.double())
    torch.testing.assert_close(everything.double(), exact_logits, rtol=1e-5, atol=2e-4)
    order = torch.randperm(rows)
    if isinstance(head, Head):
        assert torch.equal(avx512.token_logits(hidden[order[:3]], head), everything[order[:3]])
        shuffled = avx512.label_head(hidden[order], head, query_rows, query_tokens[: len(query_rows)], softcap)
        assert torch.equal(shuffled[1], found[1][order])


def assert_rounded_once(ours: torch.Tensor, exact: torch.Tensor, cancelled: float = 1e-5) -> None:
    assert ours.dtype == torch.bfloat16
    assert ((ours.double() - exact).abs() <= exact.abs() * ROUNDING + cancelled).all()


class TestCompilation:
    @pytest.fixture(scope="class")
    def compiled(self) -> Path:
        """The library, as it lies in the user's cache."""
        assert library.obstacle() is None
        return library._folder() / f"avx512-{library.build()}.so"

    @pytest.fixture
    def quick_compiler(self, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Copies what the real one, which takes four seconds, has made."""
        compiler = tmp_path / "compiler"
        compiler.write_text(f'#!/bin/sh\nfor out; do :; done\nexec cp "{compiled}" "$out"\n')
        compiler.chmod(0o755)
        monkeypatch.setenv("CXX", str(compiler))

    @pytest.fixture(autouse=True)
    def fresh(self, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        ops._warn.cache_clear()
        library._load.cache_clear()
        yield
        library._load.cache_clear()

    def test_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert library.obstacle() is None
        (kept,) = (tmp_path / "preftree").iterdir()
        assert kept.name == f"avx512-{library.build()}.so"
        assert (tmp_path / "preftree").stat().st_mode & 0o777 == 0o700
        library._load.cache_clear()
        monkeypatch.setenv("PATH", "/nowhere")
        assert library.obstacle() is None

    @pytest.mark.usefixtures("quick_compiler")
    def test_a_damaged_library_is_compiled_again(self, tmp_path: Path) -> None:
        (tmp_path / "preftree").mkdir(mode=0o700)
        kept = tmp_path / "preftree" / f"avx512-{library.build()}.so"
        kept.write_bytes(b"\x7fELF")
        assert library.obstacle() is None
        assert kept.stat().st_size > 4

    @pytest.mark.usefixtures("quick_compiler")
    def test_a_folder_that_others_may_write_to(self, tmp_path: Path) -> None:
        (tmp_path / "preftree").mkdir()
        (tmp_path / "preftree").chmod(0o777)
        assert library.obstacle() is None
        assert not list((tmp_path / "preftree").iterdir())

    def test_without_a_compiler(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """The operations in plain torch serve, and one line says what is lost."""
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", "/nowhere")
        for _ in range(2):
            assert ops.implementation(torch.device("cpu"), torch.bfloat16) is cpu
        assert caplog.messages == [
            "bfloat16 runs at half its speed on this CPU: there is no C++ compiler; install g++, or set CXX to one"
        ]

    def test_a_compiler_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        compiler = tmp_path / "compiler"
        compiler.write_text("#!/bin/sh\necho \"error: unrecognized option '-mamx-tile'\" >&2\nexit 1\n")
        compiler.chmod(0o755)
        monkeypatch.setenv("CXX", str(compiler))
        said = library.obstacle()
        assert said is not None
        assert "error: unrecognized option '-mamx-tile'); install a newer g++" in said
