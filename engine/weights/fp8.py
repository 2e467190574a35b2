"""Matrices of linear layers in fp8, a part at a time: as a checkpoint has them, or quantised from what it has."""

from __future__ import annotations

import torch

from preftree.engine.weights.quantized.source import QuantizedSource
from preftree.engine.weights.safetensors import TensorSource
from preftree.engine.weights.tensors import Matrix
from preftree.kernels.quantized.fp8 import Fp8Rows, quantize_rows


def read_fp8(source: TensorSource, matrix: Matrix, device: torch.device) -> Fp8Rows:
    """The parts of a matrix, one below the other. What is not in fp8 is quantised in the type that it is stored in."""
    parts = []
    for part in matrix.parts:
        name, shape = f"{part.name}.weight", (part.stored_rows, matrix.columns)
        stored = source.fp8_rows(name, shape, device) if isinstance(source, QuantizedSource) else None
        rows = quantize_rows(source.tensor(name, shape, device)) if stored is None else stored
        own = slice(part.first, part.first + part.rows)
        parts.append((rows.levels[own], rows.scale[own]))
    levels, scales = zip(*parts, strict=True)
    return Fp8Rows(torch.cat([one.view(torch.uint8) for one in levels]).view(levels[0].dtype), torch.cat(scales))
