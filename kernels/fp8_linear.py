"""Linear layers in fp8 on a GPU, in blocks of a fixed number of rows: the library's products, or Triton's.

torch's row-wise `_scaled_mm` is the faster one. Whether it gives a row the same bits in every place of a block is for
a GPU to show; where it does not, set the environment variable PREFTREE_FP8_PRODUCT to "triton": that kernel has one
order of sums by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from preftree.kernels.fp8_product import fp8_product
from preftree.kernels.fp8_rows import fp8_rows
from preftree.kernels.quantized.fp8 import Fp8Linear, Fp8Rows
from preftree.kernels.quantized.types import product_name

# Tensor cores sum fp8 in fewer bits than float32 has. Without this the library adds up blocks of inputs in float32.
FAST_SUMS = False


@dataclass(frozen=True)
class Fp8Qkv(Fp8Linear):
    """Queries, keys and values as one linear layer. width: its outputs that are queries."""

    width: int = 0

    @property
    def queries(self) -> Fp8Linear:
        """A view of the first outputs."""
        return self.part(slice(self.width))

    @property
    def keys_values(self) -> Fp8Linear:
        """A view of the other ones."""
        return self.part(slice(self.width, None))


def fp8_linear(x: torch.Tensor | Fp8Rows, packed: Fp8Linear, row_block: int | None) -> torch.Tensor:
    """`cuda.linear` of rows that are quantised already, or are now."""
    rows = x if isinstance(x, Fp8Rows) else fp8_rows(x)
    out = torch.empty(len(rows.levels), len(packed.weight.levels), dtype=rows.dtype, device=rows.levels.device)
    if product_name() == "triton":
        fp8_product(rows, packed, out)
        return out
    size = row_block or len(out)
    for levels, scale, result in zip(rows.levels.split(size), rows.scale.split(size), out.split(size), strict=True):
        torch._scaled_mm(
            levels,
            packed.weight.levels.T,
            scale_a=scale.unsqueeze(1),
            scale_b=packed.weight.scale.unsqueeze(0),
            bias=packed.bias,
            out_dtype=rows.dtype,
            use_fast_accum=FAST_SUMS,
            out=result,
        )
    return out
