"""A row's bits do not depend on the rows around it. Each test fails when an operation mixes rows or reorders sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from preftree.engine.planning.plan import build_plan
from preftree.engine.planning.trie import TokenTrie
from preftree.kernels import avx512, cpu, isa
from preftree.kernels.tiles import PlanLayout
from tests.kernels.shapes import (
    LAYOUT,
    PATH_LAYOUT,
    needs_avx512,
    poisoned_attention_inputs,
    random_plan,
    random_sequences,
    with_sinks,
)

SHAPES = [(576, 576), (576, 384), (576, 3072), (1536, 576)]  # in and out of the embedded model's linear layers


def blockwise(operation: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    return torch.cat([operation(block) for block in rows.split(cpu.ROW_BLOCK)])


def assert_rows_are_independent(operation: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> None:
    """Shuffled over all blocks, beside other neighbours, and from memory aligned differently: the same bits."""
    expected = blockwise(operation, rows)
    order = torch.randperm(len(rows))
    assert torch.equal(blockwise(operation, rows[order]), expected[order])
    alone = torch.randn_like(rows[: cpu.ROW_BLOCK])
    alone[77] = rows[3]
    assert torch.equal(operation(alone)[77], expected[3])
    shifted = torch.empty(rows.numel() + 3, dtype=rows.dtype)[3:].view_as(rows).copy_(rows)
    assert torch.equal(blockwise(operation, shifted), expected)


@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_linear(inputs: int, outputs: int) -> None:
    packed = cpu.pack_linear(torch.randn(outputs, inputs), torch.randn(outputs))
    assert_rows_are_independent(lambda x: cpu.linear(x, packed), torch.randn(4 * cpu.ROW_BLOCK, inputs))


@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_products_of_16_bits(inputs: int, outputs: int) -> None:
    packed = cpu.pack_linear(torch.randn(outputs, inputs).bfloat16(), torch.randn(outputs).bfloat16())
    gate = cpu.pack_gated(torch.randn(outputs, inputs).bfloat16())
    rows = torch.randn(4 * cpu.ROW_BLOCK, inputs).bfloat16()
    assert_rows_are_independent(lambda x: cpu.linear(x, packed), rows)
    assert_rows_are_independent(lambda x: cpu.gated(x, gate, "silu"), rows)
    assert_rows_are_independent(lambda x: cpu.gated(x, gate, "gelu_tanh"), rows)
    assert_rows_are_independent(lambda x: cpu.gated(x, gate, "clamped_silu"), rows)


@pytest.mark.skipif(not isa.int8_runs(), reason="the processor lacks instructions for products of 8 bits")
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_products_of_8_bits(inputs: int, outputs: int) -> None:
    packed = cpu.pack_linear(torch.randn(outputs, inputs), torch.randn(outputs), quantized="int8")
    assert_rows_are_independent(lambda x: cpu.linear(x, packed), torch.randn(4 * cpu.ROW_BLOCK, inputs))


def test_the_check_catches_a_variant_linear() -> None:
    """The inverse: a product whose summation order depends on the block's content must fail the check."""
    weight = torch.randn(64, 512)

    def variant(x: torch.Tensor) -> torch.Tensor:
        split = 100 + int(x[0, 0].abs() * 100) % 200
        return x[:, :split] @ weight[:, :split].T + x[:, split:] @ weight[:, split:].T

    with pytest.raises(AssertionError):
        assert_rows_are_independent(variant, torch.randn(4 * cpu.ROW_BLOCK, 512))


def test_element_wise_operations() -> None:
    rows = torch.randn(4 * cpu.ROW_BLOCK, 576)
    weight = torch.randn(576)
    assert_rows_are_independent(lambda x: cpu.rms_norm(x, weight, 1e-5), rows)
    assert_rows_are_independent(lambda x: cpu.layer_norm(x, weight, 1e-5), rows)
    assert_rows_are_independent(cpu.swiglu, rows)
    assert_rows_are_independent(cpu.geglu, rows)
    assert_rows_are_independent(cpu.clamped_swiglu, rows)


@pytest.mark.parametrize("has_norm", [False, True])
def test_rotation_and_head_norms(has_norm: bool) -> None:
    """Many short sums a row. Angles belong to the row, so they are carried in it."""
    heads, size = 4, 128
    norm = torch.rand(size) + 0.5 if has_norm else None

    def rotate(x: torch.Tensor) -> torch.Tensor:
        out = torch.empty(len(x), heads, size)
        cos, sin, projected = x.split([size // 2, size // 2, heads * size], dim=1)
        cpu.rotate(projected, cos, sin, out, norm, 1e-6)
        return out

    def store_kv(x: torch.Tensor) -> torch.Tensor:
        out = torch.empty(len(x), 2, heads // 2, size)
        cos, sin, projected = x.split([size // 2, size // 2, heads * size], dim=1)
        cpu.store_kv(projected, cos, sin, out, norm, 1e-6)
        return out

    rows = torch.randn(512, size + heads * size)
    assert_rows_are_independent(rotate, rows)
    assert_rows_are_independent(store_kv, rows)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"window": 37},
    {"window": 37, "softcap": 2.0},
    {"window": 37, "sinks": True},
]


def attention_of(
    sequences: Sequence[np.ndarray],
    rows_of: dict[bytes, torch.Tensor],
    kv_of: dict[bytes, torch.Tensor],
    options: dict[str, Any],
    layout: PlanLayout = LAYOUT,
    dtype: torch.dtype = torch.float32,
    ops: ModuleType = cpu,
) -> dict[bytes, torch.Tensor]:
    """Attention output by token path: queries and K/V of a row are functions of its path."""
    trie = TokenTrie.build(sequences)
    plan = build_plan(trie, layout)
    queries, kv = (one.to(dtype) for one in poisoned_attention_inputs(plan, trie.num_rows, 6, 2, 64, seed=0))
    keys = []
    paths = trie.paths()
    for path, start, length, depth in zip(paths, trie.start, trie.length, trie.first_depth, strict=True):
        keys += [trie.token[path[: depth + i + 1]].tobytes() for i in range(length)]
        assert int(start) + int(length) == len(keys)
    for row, key in enumerate(keys):
        queries[row] = rows_of.setdefault(key, torch.randn(6, 64))
        kv[row] = kv_of.setdefault(key, torch.randn(2, 2, 64))
    ops.tree_attention(queries, kv, plan.tiles, out=queries, **options)
    return {key: queries[row].clone() for row, key in enumerate(keys)}


KINDS = [
    pytest.param(LAYOUT, torch.float32, cpu, id="float32"),
    pytest.param(LAYOUT, torch.bfloat16, cpu, id="bfloat16"),
    pytest.param(PATH_LAYOUT, torch.bfloat16, avx512, id="avx512", marks=needs_avx512),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("layout", "dtype", "ops"), KINDS)
def test_tree_attention_does_not_see_siblings(
    layout: PlanLayout, dtype: torch.dtype, ops: ModuleType, options: dict[str, Any]
) -> None:
    """The same path in other tries: alone, among siblings that cut its branch elsewhere, in another order."""
    options = with_sinks(options, 6)
    rows_of: dict[bytes, torch.Tensor] = {}
    kv_of: dict[bytes, torch.Tensor] = {}
    sequences = random_sequences(11, count=12, longest=150)
    everything = attention_of(sequences, rows_of, kv_of, options, layout, dtype, ops)
    for part in ([sequences[0]], [sequences[4]], sequences[3:7], sequences[::-1]):
        for key, value in attention_of(part, rows_of, kv_of, options, layout, dtype, ops).items():
            assert torch.equal(value, everything[key])


@pytest.mark.parametrize("window", [None, 300, 700])
@pytest.mark.parametrize(("layout", "dtype", "ops"), KINDS)
def test_long_paths_do_not_see_siblings(
    layout: PlanLayout, dtype: torch.dtype, ops: ModuleType, window: int | None
) -> None:
    """Paths of several of the library's key blocks, cut at different places, behind windows that begin among them."""
    trunk = np.random.default_rng(0).integers(0, 1000, 1300)
    cut = [np.append(trunk[:length], 7) for length in (3, 290, 500, 511, 520, 777, 1010, 1024, 1030, 1299)]
    rows_of: dict[bytes, torch.Tensor] = {}
    kv_of: dict[bytes, torch.Tensor] = {}
    alone = attention_of([trunk], rows_of, kv_of, {"window": window}, layout, dtype, ops)
    together = attention_of([*cut, trunk], rows_of, kv_of, {"window": window}, layout, dtype, ops)
    assert alone.keys() < together.keys()
    assert all(torch.equal(value, together[key]) for key, value in alone.items())


@pytest.mark.parametrize(("layout", "dtype", "ops"), KINDS)
def test_tiles_of_a_chunk_need_no_other_chunk(layout: PlanLayout, dtype: torch.dtype, ops: ModuleType) -> None:
    """Catches tiles that look at what was gathered for another chunk."""
    trie, plan = random_plan(3, count=12, longest=100, layout=layout)
    queries, kv = (one.to(dtype) for one in poisoned_attention_inputs(plan, trie.num_rows, 6, 2, 64, seed=3))
    outputs = [torch.empty_like(queries) for _ in range(2)]
    assert isinstance(plan.tiles, tuple)
    assert len(plan.tiles) > 3
    ops.tree_attention(queries, kv, plan.tiles, out=outputs[0])
    for tiles in reversed(plan.tiles):
        ops.tree_attention(queries, kv, (tiles.moved(lambda tensor: tensor),), out=outputs[1])
    assert torch.equal(outputs[0][: trie.num_rows], outputs[1][: trie.num_rows])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_label_head(dtype: torch.dtype) -> None:
    head = cpu.pack_head(torch.randn(20000, 128).to(dtype))
    hidden = torch.randn(4 * cpu.FINAL_ROW_BLOCK, 128).to(dtype)
    order = torch.randperm(len(hidden))
    rows, tokens = torch.arange(len(hidden)), torch.randint(0, 20000, (len(hidden),))
    logits, normaliser = cpu.label_head(hidden, head, rows, tokens)
    place = torch.empty_like(order)
    place[order] = rows
    shuffled = cpu.label_head(hidden[order], head, place[rows], tokens)
    assert torch.equal(shuffled[0], logits)
    assert torch.equal(shuffled[1][place], normaliser)
    first = cpu.FINAL_ROW_BLOCK
    alone = cpu.label_head(hidden[:first], head, rows[:1], tokens[:1])
    assert torch.equal(alone[0], logits[:1])
    assert torch.equal(alone[1], normaliser[:first])


@pytest.mark.parametrize("size", [96, 1000, 4096])
def test_scalar_head(size: int) -> None:
    """Shuffled, in the first block alone, and from memory aligned differently."""
    hidden, weight = torch.randn(4 * cpu.FINAL_ROW_BLOCK, size), torch.randn(1, size)
    rows, order = torch.arange(len(hidden)), torch.randperm(len(hidden))
    found = cpu.scalar_head(hidden, weight, rows)
    assert torch.equal(cpu.scalar_head(hidden[order], weight, rows), found[order])
    first = cpu.FINAL_ROW_BLOCK
    assert torch.equal(cpu.scalar_head(hidden[order[:first]], weight, rows[:first]), found[order[:first]])
    shifted = torch.empty(hidden.numel() + 3)[3:].view_as(hidden).copy_(hidden)
    assert torch.equal(cpu.scalar_head(shifted, weight, rows), found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("row_block", [32, 256])
def test_experts_do_not_see_who_else_chose_them(row_block: int, dtype: torch.dtype) -> None:
    """Few rows, many rows and other neighbours, all experts or some at a time: an expert's blocks have the same number
    of rows, and a row adds up its experts in the same order."""
    experts = mlps_of(5, hidden=96, width=64, dtype=dtype)
    x, router = torch.randn(700, 96).to(dtype), torch.randn(700, 5)

    def mixed(rows: torch.Tensor, parts: Sequence[range | None] = (None,)) -> torch.Tensor:
        pairs = cpu.sort_by_expert(*cpu.route(router[rows], 2, True), 5)
        products = torch.full((2 * len(rows), 96), float("nan"), dtype=dtype)
        for numbers in parts:
            cpu.expert_products(x[rows], pairs, experts, "silu", products, row_block, numbers)
        return cpu.combine_experts(products, pairs)

    everything = mixed(torch.arange(700))
    assert everything.isfinite().all()
    for rows in (torch.randperm(700), torch.tensor([77]), torch.arange(50, 90)):
        assert torch.equal(mixed(rows), everything[rows])
        assert torch.equal(mixed(rows, [range(3, 5), range(3)]), everything[rows])


def mlps_of(count: int, hidden: int, width: int, dtype: torch.dtype) -> cpu.Experts:
    def layers(outputs: int, inputs: int) -> list[tuple[torch.Tensor, None]]:
        return [(torch.randn(outputs, inputs).to(dtype), None) for _ in range(count)]

    return cpu.pack_experts(layers(2 * width, hidden), layers(hidden, width), count)
