"""A layer's matrices apart from the rest of it, so that they may be somewhere else.

Vectors (norms, biases, scales) and the embeddings of single layers stay with the layer: the former are a thousandth of
it, of the latter a pass reads few rows.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

from preftree.engine.weights.layers import LayerWeights, PerLayerWeights


def taken_apart(layer: LayerWeights) -> tuple[LayerWeights, list[torch.Tensor]]:
    """The layer with empty matrices, and the matrices, each of which fills its memory without gaps."""
    matrices: list[torch.Tensor] = []

    def take(matrix: torch.Tensor) -> torch.Tensor:
        matrices.append(matrix if matrix.is_mkldnn or is_dense(matrix) else matrix.contiguous())
        return torch.empty(0, 0)

    return _with(layer, take), matrices


def put_together(frame: LayerWeights, matrices: Sequence[torch.Tensor]) -> LayerWeights:
    """The layer again; both as `taken_apart` gave them."""
    remaining = iter(matrices)
    return _with(frame, lambda _: next(remaining))


def is_dense(matrix: torch.Tensor) -> bool:
    """Whether its elements, in some order, are all of a piece of memory."""
    return matrix.is_contiguous() or matrix.mT.is_contiguous()


def memory_of(matrix: torch.Tensor) -> memoryview:
    """The bytes of a dense matrix on the CPU, in place: packed by oneDNN or not."""
    if matrix.is_mkldnn:
        address, size = torch.ops.mkldnn.data_ptr(matrix), torch.ops.mkldnn._nbytes(matrix)
    else:
        address, size = matrix.data_ptr(), matrix.nbytes
    return memoryview((ctypes.c_char * size).from_address(address)).cast("B")


def _with(value: Any, matrix: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """`value` with `matrix` of each of its matrices, in an order that only its structure decides."""
    if isinstance(value, torch.Tensor):
        return matrix(value) if value.dim() > 1 else value
    if isinstance(value, tuple | list):
        items = [_with(item, matrix) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    names = [
        field.name for field in fields(value) if not (isinstance(value, PerLayerWeights) and field.name == "table")
    ]
    return replace(value, **{name: _with(getattr(value, name), matrix) for name in names})
