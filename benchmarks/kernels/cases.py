"""What the compile report compiles: every kernel as the launchers launch it, with the sizes of real models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from typing import Any, get_args

import torch

from benchmarks.kernels.dry_launch import Variant, recorded
from preftree.kernels import (
    attention,
    experts,
    fp8_product,
    fp8_rows,
    gated,
    label_head,
    launch,
    norm,
    qkv_store,
    rope_store,
)
from preftree.kernels.launch import AttentionSettings
from preftree.kernels.quantized.fp8 import FP8, Fp8Linear, Fp8Rows
from preftree.kernels.routing import ExpertPairs, route, sort_by_expert
from preftree.kernels.stacked import Experts, StackedLinear
from preftree.kernels.tiles import Activation, PathTiles

ARCHITECTURES = (80, 90)
# Cards before 8.9 have no numbers of 8 bits.
FP8_ARCHITECTURES = (89, 90)
# SmolLM2-135M, Llama 3 8B, and the longest row there is.
HIDDEN_SIZES = (576, 4096, norm.MAX_HIDDEN)
LLAMA_3_VOCABULARY = 128256
ROWS = 2048
EPS = 1e-5
# Hidden size, width, experts, experts of a row, and the gate.
Mixture = tuple[int, int, int, int, Activation]
# Qwen3-30B-A3B's, gpt-oss-20b's with its biases, and sizes that no block divides.
MIXTURES: tuple[Mixture, ...] = (
    (2048, 768, 128, 8, "silu"),
    (2880, 2880, 32, 4, "clamped_silu"),
    (1008, 368, 16, 2, "gelu_tanh"),
)
NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass(frozen=True)
class Case:
    """A kernel of the report. dtype: "bf16" or "fp32". head_size: of attention and rotary embedding."""

    name: str
    arch: int
    dtype: str
    head_size: int | None
    variant: Variant

    def __str__(self) -> str:
        return described(self.name, self.arch, self.dtype, self.head_size)


def described(name: str, arch: int, dtype: str, head_size: int | None) -> str:
    """A case in one line: "tree_attention, tiles of 64, window (sm_90, bf16, 128)"."""
    places = [f"sm_{arch}", dtype, *([str(head_size)] if head_size else [])]
    return f"{name} ({', '.join(places)})"


@cache
def cases(head_sizes: tuple[int, ...] = launch.HEAD_SIZES) -> tuple[Case, ...]:
    """Every kernel and architecture; bfloat16, and float32 where other settings serve it.

    head_sizes: of attention and rotary embedding. Attention comes with and without a window and a cap, and with sinks.
    Needs a process without TRITON_INTERPRET, as do the functions below.
    """
    rotary, attending = (partial(kind, head_sizes=head_sizes) for kind in (_rotary_cases, _attention_cases))
    kinds: tuple[Callable[[int], list[Case]], ...] = (
        *(_norm_cases, rotary, _gated_cases, _head_cases, _experts_cases),
        attending,
    )
    found = [case for arch in ARCHITECTURES for kind in kinds for case in kind(arch)]
    return (*found, *(case for arch in FP8_ARCHITECTURES for case in _fp8_cases(arch)))


def attention_case(
    arch: int,
    size: int,
    dtype: torch.dtype,
    settings: AttentionSettings,
    window: int | None = None,
    softcap: float | None = None,
    sinks: torch.Tensor | None = None,
) -> Case:
    """Tree attention of 32 heads on 8."""
    queries, kv = _meta(ROWS, 32, size, dtype=dtype), _meta(ROWS, 2, 8, size, dtype=dtype)
    options: dict[str, Any] = {"window": window, "softcap": softcap, "sinks": sinks}
    call = partial(attention.launch_tree_attention, queries, kv, _tiles(), queries, settings, **options)
    tiles = "single tokens" if settings in launch.SINGLE_TOKENS.values() else f"tiles of {settings.block_m}"
    extras = "".join(f", {name}" for name, value in options.items() if value is not None)
    (case,) = _of(f"tree_attention, {tiles}{extras}", arch, call, dtype, size)
    return case


def normaliser_case(arch: int, settings: label_head.HeadSettings) -> Case:
    """The matrix product of the label head, for Llama 3 8B in bfloat16."""
    call = partial(label_head.log_normaliser, _meta(ROWS, 4096), _meta(LLAMA_3_VOCABULARY, 4096), settings)
    return _of("label_head of 4096", arch, call)[0]


def _norm_cases(arch: int) -> list[Case]:
    found = []
    for hidden in HIDDEN_SIZES:
        x, weight = _meta(ROWS, hidden), _meta(hidden)
        found += _of(f"rms_norm of {hidden}", arch, partial(norm.rms_norm, x, weight, EPS))
        found += _of(f"add_rms_norm of {hidden}", arch, partial(norm.add_rms_norm, x, x, weight, EPS))
        found += _of(f"layer_norm of {hidden}", arch, partial(norm.layer_norm, x, weight, EPS))
        found += _of(f"add_layer_norm of {hidden}", arch, partial(norm.add_layer_norm, x, x, weight, EPS))
    return found


def _rotary_cases(arch: int, head_sizes: Sequence[int]) -> list[Case]:
    found = []
    for size in head_sizes:
        angles = _meta(ROWS, size // 2)
        for suffix, weight in (("", None), (", normed", _meta(size))):
            out = _meta(ROWS, 32, size)
            call = partial(rope_store.rotate, _meta(ROWS, 32 * size), angles, angles, out, weight, EPS)
            found += _of("rotate" + suffix, arch, call, head_size=size)
            out = _meta(ROWS, 2, 8, size)
            for ending, slots in (("", None), (", slots", _meta(ROWS, dtype=torch.int64))):
                call = partial(rope_store.store_kv, _meta(ROWS, 16 * size), angles, angles, out, weight, EPS, slots)
                found += _of("store_kv" + suffix + ending, arch, call, head_size=size)
                norms = None if weight is None else (weight, weight)
                parts = _meta(ROWS, 48 * size), (angles, angles), (angles, angles), _meta(ROWS, 32, size)
                call = partial(qkv_store.store_qkv, *parts, out, norms, EPS, slots)
                found += _of("store_qkv" + suffix + ending, arch, call, head_size=size)
    return found


def _gated_cases(arch: int) -> list[Case]:
    x = _meta(ROWS, 2 * 14336)
    kinds: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "swiglu": gated.swiglu,
        "geglu": gated.geglu,
        "clamped_swiglu": gated.clamped_swiglu,
    }
    return [case for name, kind in kinds.items() for case in _of(name, arch, partial(kind, x))]


def _fp8_cases(arch: int) -> list[Case]:
    """A product with and without a last block of inputs that is not whole, and what ends in fp8."""
    found = []
    for hidden in (4096, 1008):
        packed = Fp8Linear(_fp8_rows(6144, hidden), _meta(6144))
        product = partial(fp8_product.fp8_product, _fp8_rows(ROWS, hidden), packed, _meta(ROWS, 6144))
        found += _of(f"fp8_product of {hidden}", arch, product)
    for hidden in HIDDEN_SIZES:
        x, weight = _meta(ROWS, hidden), _meta(hidden)
        for is_centred in (False, True):
            call = partial(norm.fp8_norm, x, x, weight, EPS, is_centred)
            found += _of(f"fp8_norm of {hidden}{', centred' if is_centred else ''}", arch, call)
    for activation in get_args(Activation):
        call = partial(gated.fp8_gated, _meta(ROWS, 2 * 14336), activation)
        found += _of(f"fp8_gated, {activation}", arch, call)
    for mixture in MIXTURES:
        found += _expert_products_cases(arch, f"fp8_experts of {mixture[0]}", mixture, FP8)
    return [*found, *_of("fp8_rows of 4096", arch, partial(fp8_rows.fp8_rows, _meta(ROWS, 4096)))]


def _fp8_rows(rows: int, width: int) -> Fp8Rows:
    return Fp8Rows(_meta(rows, width, dtype=FP8), _meta(rows, dtype=torch.float32))


def _head_cases(arch: int) -> list[Case]:
    found = []
    queries = _meta(100, dtype=torch.int64)
    # A hidden size that no block divides takes masked loads.
    for hidden, dtype in ((4096, torch.bfloat16), (1008, torch.bfloat16), (4096, torch.float32)):
        rows, weight = _meta(ROWS, hidden, dtype=dtype), _meta(LLAMA_3_VOCABULARY, hidden, dtype=dtype)
        call = partial(label_head.label_head, rows, weight, queries, queries)
        found += _of(f"label_head of {hidden}", arch, call, dtype)
    capped = partial(label_head.label_head, _meta(ROWS, 2304), _meta(256000, 2304), queries, queries, 30.0)
    return [*found, *_of("label_head of 2304, capped", arch, capped)]


def _experts_cases(arch: int) -> list[Case]:
    """Their products in 16 bits and in float32, and what adds them up."""
    found = []
    for mixture, dtype in ((0, torch.bfloat16), (1, torch.bfloat16), (2, torch.bfloat16), (0, torch.float32)):
        hidden, products, pairs = MIXTURES[mixture][0], *_pairs(MIXTURES[mixture], dtype)
        found += _expert_products_cases(arch, f"experts of {hidden}", MIXTURES[mixture], dtype)
        combine = partial(experts.combine_experts, products, pairs)
        found += _of(f"experts of {hidden}, combined", arch, combine, dtype)
    return found


def _expert_products_cases(arch: int, name: str, mixture: Mixture, dtype: torch.dtype) -> list[Case]:
    """dtype: of weights, FP8 or that of activations."""
    hidden, width, count, _, activation = mixture
    is_fp8, has_bias = dtype == FP8, activation == "clamped_silu"
    gate_up, down = (
        StackedLinear(
            _meta(count, *shape, dtype=dtype),
            _meta(count, shape[0]) if has_bias else None,
            _meta(count, shape[0], dtype=torch.float32) if is_fp8 else None,
        )
        for shape in ((2 * width, hidden), (hidden, width))
    )
    activations = torch.bfloat16 if is_fp8 else dtype
    products, pairs = _pairs(mixture, activations)
    x = _meta(ROWS, hidden, dtype=activations)
    call = partial(experts.expert_products, x, pairs, Experts(gate_up, down), activation, products)
    gate, linear = [
        one for one in _of(name, arch, call, activations) if one.variant.fn is experts.expert_product_kernel
    ]
    return [replace(gate, name=f"{name}, gated"), replace(linear, name=f"{name}, linear")]


def _pairs(mixture: Mixture, dtype: torch.dtype) -> tuple[torch.Tensor, ExpertPairs]:
    """Products of all pairs, and the pairs."""
    hidden, _, count, per_row, _ = mixture
    pairs = sort_by_expert(*route(_meta(ROWS, count), per_row, True), count)
    return _meta(ROWS * per_row, hidden, dtype=dtype), pairs


def _attention_cases(arch: int, head_sizes: Sequence[int]) -> list[Case]:
    found = []
    for size, dtype in product(head_sizes, (torch.bfloat16, torch.float32)):
        heights = list(launch.tile_shapes(arch, size, dtype.itemsize).all_settings)
        if dtype.itemsize == 2 and (arch, size) in launch.SINGLE_TOKENS:
            heights.append(launch.SINGLE_TOKENS[arch, size])
        # Mistral's window and Gemma 2's cap. Other values make no other code.
        for settings, window, softcap in product(heights, (None, 4096), (None, 50.0)):
            found.append(attention_case(arch, size, dtype, settings, window, softcap))
        # gpt-oss's.
        sinks = _meta(32, dtype=torch.float32)
        found += [attention_case(arch, size, dtype, settings, 128, sinks=sinks) for settings in heights]
    return found


def _of(
    name: str,
    arch: int,
    call: Callable[[], object],
    dtype: torch.dtype = torch.bfloat16,
    head_size: int | None = None,
) -> list[Case]:
    """A case for every kernel that `call` launches, named after it where there are several."""
    with recorded(arch) as variants:
        call()
    names = [variant.name.removeprefix("label_head_").removesuffix("_kernel") for variant in variants]
    parts = [""] if len(variants) == 1 else [f", {part}" for part in names]
    return [
        Case(name + part, arch, NAMES[dtype], head_size, variant) for part, variant in zip(parts, variants, strict=True)
    ]


def _meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def _tiles() -> PathTiles:
    column = _meta(100, dtype=torch.int32)
    return PathTiles(column, column, column, path=column, slots=_meta(5000, dtype=torch.int32), max_rows=1)
