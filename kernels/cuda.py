"""The operations on a CUDA device: Triton kernels, and the library's matrix products.

The same names as in `preftree.kernels.cpu`. Compiled ahead of time and run in Triton's interpreter by the tests;
`python -m benchmarks.gpu` runs everything on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F

from preftree.kernels.attention import tree_attention
from preftree.kernels.experts import combine_experts, expert_products
from preftree.kernels.fp8_linear import Fp8Qkv, fp8_linear
from preftree.kernels.gated import clamped_swiglu, fp8_gated, geglu, swiglu
from preftree.kernels.label_head import label_head, pack_head, scalar_head
from preftree.kernels.launch import capability_of, low_tile_rows, tile_rows
from preftree.kernels.norm import MAX_HIDDEN, add_layer_norm, add_rms_norm, fp8_norm, layer_norm, rms_norm
from preftree.kernels.qkv_store import store_qkv
from preftree.kernels.quantized.fp8 import Fp8Linear, Fp8Rows, pack_fp8
from preftree.kernels.quantized.types import Quantized
from preftree.kernels.rope_store import rotate, store_kv
from preftree.kernels.routing import route, route_by_sigmoid, sort_by_expert
from preftree.kernels.stacked import pack_experts
from preftree.kernels.tiles import Activation, PlanLayout

# Every block takes four matrix products a layer, about 20 us of the host each. A block has to keep the GPU busy for
# longer than that: 1.3 ms in an 8B model at 2,048 rows, 0.7 ms in a 0.6B one at 16,384, where an H200 multiplies 5%
# faster than at 8,192, too. The last block of a batch is padded, so larger ones would slow down small batches.
ROW_BLOCK = 2048
NARROW_ROW_BLOCK = 16384
NARROW_HIDDEN = 2048
FINAL_ROW_BLOCK = 256
# Element-wise kernels take the rows of so many blocks at once. They take the host longer to launch than matrix products
# do: block by block, a 0.6B model left an H200 idle half of the time. More blocks only cost memory.
CHUNK_BLOCKS = 4
# Sequences that are decoded together. Up to here a step is bound by reading the weights.
STEP_BLOCK = 128
# Rows in a batch by default, in blocks: a batch gives the host time for the next.
BATCH_BLOCKS = 16
NARROW_BATCH_BLOCKS = 8
_GATES = {"silu": swiglu, "gelu_tanh": geglu, "clamped_silu": clamped_swiglu}
# torch holds each as a pair with `..._split_k`, and takes a bool for (bool, True).
_REDUCED_SUMS = ("allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction")


def plan_layout(
    device: torch.device,
    dtype: torch.dtype,
    hidden_size: int,
    heads_per_kv: int,
    head_dim: int,
) -> PlanLayout:
    """Blocks by the width of the model, tiles as tall as the attention kernel takes them for these heads.

    Raises ValueError, one line, for a GPU, dtype or head size without kernels.
    """
    table = capability_of(device), head_dim, dtype.itemsize, heads_per_kv
    rows, low_rows = tile_rows(*table), low_tile_rows(*table)
    if hidden_size > MAX_HIDDEN:
        raise ValueError(f"rows of {hidden_size:,} numbers are too long for a norm, which takes up to {MAX_HIDDEN:,}")
    is_narrow = hidden_size <= NARROW_HIDDEN
    return PlanLayout(
        row_block=NARROW_ROW_BLOCK if is_narrow else ROW_BLOCK,
        final_row_block=FINAL_ROW_BLOCK,
        tile_rows=rows,
        step_block=STEP_BLOCK,
        chunk_blocks=CHUNK_BLOCKS,
        low_tile_rows=low_rows,
        batch_blocks=NARROW_BATCH_BLOCKS if is_narrow else BATCH_BLOCKS,
    )


class PackedLinear(NamedTuple):
    """A linear layer as `linear` reads it. Made by `pack_linear`.

    Attributes:
        weight: [in, out], a view of the contiguous [out, in].
        bias: [out] or None.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None


def pack_linear(
    weight: torch.Tensor | Fp8Rows, bias: torch.Tensor | None = None, quantized: Quantized | None = None
) -> PackedLinear | Fp8Linear:
    """Prepare weight [out, in] and bias [out] for `linear`. quantized: to this type; a GPU has "fp8"."""
    return pack_fp8(weight, bias) if isinstance(weight, Fp8Rows) or quantized else pack_plain(weight, bias)


def pack_plain(weight: torch.Tensor, bias: torch.Tensor | None = None) -> PackedLinear:
    """cuBLAS reads the weight [out, in] and the bias [out] as they are."""
    return PackedLinear(weight.contiguous().T, bias)


def linear(
    x: torch.Tensor | Fp8Rows, packed: PackedLinear | PackedQkv | Fp8Linear, row_block: int | None = None
) -> torch.Tensor:
    """x [rows, in] times the transposed weight, plus the bias: [rows, out].

    x: quantised already where the layer is in fp8, or not yet. row_block: rows of one matrix product, on which a row's
    bits may depend; None for all at once.
    """
    if isinstance(packed, Fp8Linear):
        return fp8_linear(x, packed, row_block)
    assert isinstance(x, torch.Tensor)
    out = x.new_empty(len(x), packed.weight.shape[1])
    size = row_block or len(x)
    for part, result in zip(x.split(size), out.split(size), strict=True):
        if packed.bias is None:
            torch.mm(part, packed.weight, out=result)
        else:
            torch.addmm(packed.bias, part, packed.weight, out=result)
    return out


class PackedQkv(NamedTuple):
    """Queries, keys and values as one linear layer, for `linear`. Made by `pack_qkv`.

    Attributes:
        weight: [in, q + kv], a view of the contiguous [q + kv, in].
        bias: [q + kv] or None.
        width: q, the outputs that are queries.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    width: int

    @property
    def queries(self) -> PackedLinear:
        """A view of the first outputs."""
        return PackedLinear(self.weight[:, : self.width], None if self.bias is None else self.bias[: self.width])

    @property
    def keys_values(self) -> PackedLinear:
        """A view of the other ones."""
        return PackedLinear(self.weight[:, self.width :], None if self.bias is None else self.bias[self.width :])


def pack_qkv(
    weight: torch.Tensor | Fp8Rows, bias: torch.Tensor | None, width: int, quantized: Quantized | None = None
) -> PackedQkv | Fp8Qkv:
    """Queries, `width` outputs, then keys and values, one below the other [q + kv, in].

    quantized: as in `pack_linear`.
    """
    if isinstance(weight, Fp8Rows) or quantized:
        packed = pack_fp8(weight, bias)
        return Fp8Qkv(packed.weight, packed.bias, width)
    return PackedQkv(*pack_plain(weight, bias), width)


def add_linear(
    residual: torch.Tensor,
    x: torch.Tensor | Fp8Rows,
    packed: PackedLinear | Fp8Linear,
    row_block: int | None = None,
    factor: float = 1.0,
) -> torch.Tensor | None:
    """Add factor * `linear` to `residual` [rows, out] IN PLACE; returns what is left to add.

    The product reads the residual stream where it writes its result, which rounds the sum once. Through a norm that
    adds, five matrices of the stream's size would pass the memory instead of four: the update would be written and read
    in between, and only the sum not read again. The library has no product that adds a bias, too, and none in fp8
    that adds to its result: such an update is returned, for the norm.
    """
    if isinstance(packed, Fp8Linear) or packed.bias is not None:
        update = linear(x, packed, row_block)
        return update if factor == 1 else update.mul_(factor)
    assert isinstance(x, torch.Tensor)
    size = row_block or len(x)
    for part, result in zip(x.split(size), residual.split(size), strict=True):
        torch.addmm(result, part, packed.weight, alpha=factor, out=result)
    return None


def pack_gated(
    weight: torch.Tensor | Fp8Rows, bias: torch.Tensor | None = None, quantized: Quantized | None = None
) -> PackedLinear | Fp8Linear:
    """Gate and up, one below the other [2 * width, in], for `gated`: one product. quantized: see `pack_linear`."""
    return pack_linear(weight, bias, quantized)


def gated(
    x: torch.Tensor | Fp8Rows,
    packed: PackedLinear | Fp8Linear,
    activation: Activation,
    row_block: int | None = None,
) -> torch.Tensor | Fp8Rows:
    """activation(x gate) * (x up): [rows, width], quantised where the layer is: so is the one that follows.

    row_block: as in `linear`.
    """
    gate_up = linear(x, packed, row_block)
    return fp8_gated(gate_up, activation) if isinstance(packed, Fp8Linear) else _GATES[activation](gate_up)


def token_logits(hidden: torch.Tensor, head: torch.Tensor) -> torch.Tensor:
    """Logits of the whole vocabulary, to choose a token from: [rows, vocab] float32. head: from `pack_head`."""
    if hidden.dtype == torch.float32 or hidden.device.type == "cpu":  # the library has no such product for the latter
        return F.linear(hidden.float(), head.float())
    return torch.mm(hidden, head.T, out_dtype=torch.float32)


@contextmanager
def exact_products() -> Iterator[None]:
    """Switch off what makes cuBLAS's matrix products less exact: sums in 16 bits, and TF32 for float32 tensors.

    The switches are the process's; afterwards they are as before. Split-K (a sum cut into parts that are added in
    float32) stays as it is set. Fallback for a GPU on which it costs equal bits: forbid it before loading a model, with
    `torch.backends.cuda.preferred_blas_library("cublaslt")`, without which torch refuses to, and (False, False) for
    both `torch.backends.cuda.matmul.allow_*_reduced_precision_reduction`.
    """
    matmul = torch.backends.cuda.matmul
    pairs = {name: (getattr(matmul, name), getattr(matmul, f"{name}_split_k")) for name in _REDUCED_SUMS}
    accumulation, has_tf32 = matmul.allow_fp16_accumulation, matmul.fp32_precision == "tf32"
    for name, (_, split_k) in pairs.items():
        setattr(matmul, name, (False, split_k))
    matmul.allow_fp16_accumulation = False
    # `allow_tf32` is older; it would also set what torch.set_float32_matmul_precision sets, and could not restore it.
    if has_tf32:
        matmul.fp32_precision = "ieee"
    try:
        yield
    finally:
        for name, pair in pairs.items():
            setattr(matmul, name, pair)
        matmul.allow_fp16_accumulation = accumulation
        if has_tf32:
            matmul.fp32_precision = "none"  # inherits torch.backends.fp32_precision, as before if that is TF32
            if matmul.fp32_precision != "tf32":
                matmul.fp32_precision = "tf32"


__all__ = [
    "FINAL_ROW_BLOCK",
    "ROW_BLOCK",
    "STEP_BLOCK",
    "add_layer_norm",
    "add_linear",
    "add_rms_norm",
    "clamped_swiglu",
    "combine_experts",
    "exact_products",
    "expert_products",
    "fp8_norm",
    "gated",
    "geglu",
    "label_head",
    "layer_norm",
    "linear",
    "pack_experts",
    "pack_gated",
    "pack_head",
    "pack_linear",
    "pack_plain",
    "pack_qkv",
    "plan_layout",
    "rms_norm",
    "rotate",
    "route",
    "route_by_sigmoid",
    "scalar_head",
    "sort_by_expert",
    "store_kv",
    "store_qkv",
    "swiglu",
    "token_logits",
    "tree_attention",
]
