"""Counts what the JIT would compile over batches of many sizes, and prints it as JSON.

A script of its own, as tests run under TRITON_INTERPRET, where nothing is compiled: python -m tests.kernels.variants
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import torch

from benchmarks.kernels.dry_launch import Variant, recorded
from preftree.kernels import (
    attention,
    experts,
    fp8_product,
    fp8_rows,
    gated,
    label_head,
    norm,
    qkv_store,
    rope_store,
    routing,
)
from preftree.kernels.quantized.fp8 import FP8, Fp8Linear, Fp8Rows
from preftree.kernels.quantized.types import Quantized
from preftree.kernels.stacked import pack_experts
from preftree.kernels.tiles import PathTiles

# One row; less than, exactly and more than what 16 divides; a block of the engine; more than 2^31 elements.
ROWS = (1, 2, 15, 16, 17, 128, 129, 2048, 2**20 + 1)
HIDDEN, HEADS, KV_HEADS, SIZE, VOCABULARY = 1024, 8, 2, 128, 1000


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def fp8(rows: int, width: int) -> Fp8Rows:
    return Fp8Rows(meta(rows, width, dtype=FP8), meta(rows, dtype=torch.float32))


def attend(rows: int) -> None:
    column = meta(rows, dtype=torch.int32)
    tiles = PathTiles(column, column, column, path=column, slots=meta(5 * rows, dtype=torch.int32), max_rows=1)
    queries = meta(rows, HEADS, SIZE)
    attention.tree_attention(queries, meta(rows, 2, KV_HEADS, SIZE), tiles, queries)


def head(rows: int) -> None:
    queries = meta(rows, dtype=torch.int64)
    label_head.label_head(meta(rows, HIDDEN), meta(VOCABULARY, HIDDEN), queries, queries)


def scalar_head(rows: int) -> None:
    label_head.scalar_head(meta(rows, HIDDEN), meta(1, HIDDEN), meta(rows, dtype=torch.int64))


def rotate(rows: int) -> None:
    angles = meta(rows, SIZE // 2)
    rope_store.rotate(meta(rows, HEADS * SIZE), angles, angles, meta(rows, HEADS, SIZE), meta(SIZE), 1e-6)


def store_kv(rows: int) -> None:
    angles = meta(rows, SIZE // 2)
    rope_store.store_kv(meta(rows, 2 * KV_HEADS * SIZE), angles, angles, meta(rows, 2, KV_HEADS, SIZE))


def mixture(rows: int, quantized: Quantized | None = None) -> None:
    """Nothing of it can be read by the host."""
    weights, chosen = routing.route(meta(rows, 64), 4, True)
    pairs = routing.sort_by_expert(weights, chosen, 64)
    layers = [(meta(2 * HIDDEN, HIDDEN), None)] * 64, [(meta(HIDDEN, HIDDEN), None)] * 64
    products = meta(4 * rows, HIDDEN)
    experts.expert_products(meta(rows, HIDDEN), pairs, pack_experts(*layers, 64, quantized), "silu", products)
    experts.combine_experts(products, pairs)


def store_qkv(rows: int) -> None:
    angles, kv = (meta(rows, SIZE // 2),) * 2, meta(rows, 2, KV_HEADS, SIZE)
    projected = meta(rows, (HEADS + 2 * KV_HEADS) * SIZE)
    qkv_store.store_qkv(projected, angles, angles, meta(rows, HEADS, SIZE), kv, (meta(SIZE), meta(SIZE)), 1e-6)


LAUNCHES: dict[str, Callable[[int], object]] = {
    "rms_norm": lambda rows: norm.rms_norm(meta(rows, HIDDEN), meta(HIDDEN), 1e-6),
    "add_rms_norm": lambda rows: norm.add_rms_norm(meta(rows, HIDDEN), meta(rows, HIDDEN), meta(HIDDEN), 1e-6),
    "layer_norm": lambda rows: norm.layer_norm(meta(rows, HIDDEN), meta(HIDDEN), 1e-6),
    "fp8_norm": lambda rows: norm.fp8_norm(meta(rows, HIDDEN), None, meta(HIDDEN), 1e-6, False),
    "fp8_gated": lambda rows: gated.fp8_gated(meta(rows, 2 * HIDDEN), "silu"),
    "fp8_rows": lambda rows: fp8_rows.fp8_rows(meta(rows, HIDDEN)),
    "fp8_product": lambda rows: fp8_product.fp8_product(
        fp8(rows, HIDDEN), Fp8Linear(fp8(2 * HIDDEN, HIDDEN), None), meta(rows, 2 * HIDDEN)
    ),
    "rotate": rotate,
    "store_kv": store_kv,
    "store_qkv": store_qkv,
    "swiglu": lambda rows: gated.swiglu(meta(rows, 2 * HIDDEN)),
    "tree_attention": attend,
    "mixture": mixture,
    "fp8_mixture": partial(mixture, quantized="fp8"),
    "label_head": head,
    "scalar_head": scalar_head,
    # Not what a model does, but what shows that differences are counted.
    "norms of several sizes": lambda rows: norm.rms_norm(meta(4, rows % 1000), meta(rows % 1000), 1e-6),
}


def distinct(variants: list[Variant]) -> dict[str, int]:
    """How many variants of each kernel."""
    found: dict[str, set[str]] = {}
    for one in variants:
        known = (one.signature, one.constexprs, one.attributes, one.options)
        found.setdefault(one.name, set()).add(repr(known))
    return {name: len(some) for name, some in found.items()}


def main() -> None:
    counts = {}
    for name, call in LAUNCHES.items():
        with recorded(90) as variants:
            for rows in ROWS:
                call(rows)
        counts[name] = distinct(variants)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
