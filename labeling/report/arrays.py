"""Columns of labels.parquet as NumPy arrays: numbers with NaN for null, choices as small integers, lists flattened."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from preftree.engine.errors import InputError
from preftree.labeling.terminal import one_line

Floats = NDArray[np.float64]
Choices = NDArray[np.int8]
Mask = NDArray[np.bool_]

B, TIE, A, NONE = -1, 0, 1, 2


def numbers(array: Any, name: str) -> Floats:
    """Values as float64, NaN for null. InputError where the column holds something else."""
    import pyarrow as pa

    try:
        found: Floats = array.cast("double", safe=False).to_numpy(zero_copy_only=False)
    except pa.ArrowException:
        raise InputError(f"column {one_line(name)} holds {array.type}, not numbers") from None
    return found


def probabilities(array: Any, name: str) -> Floats:
    """`numbers` from 0 to 1, with room for rounding. InputError for others."""
    found = numbers(array, name)
    odd = found[(found < -1e-6) | (found > 1 + 1e-6)]
    if len(odd):
        raise InputError(f"column {one_line(name)} holds {odd[0]:g}, which is no probability")
    return found


def choices(array: Any) -> Choices:
    """A, B or TIE for "a", "b" and "tie"; NONE for anything else."""
    import pyarrow as pa
    from pyarrow import compute

    places = compute.index_in(array.cast("string"), pa.array(["b", "tie", "a"])).fill_null(NONE + 1)
    found: Choices = (places.to_numpy(zero_copy_only=False) - 1).astype(np.int8)
    return found


def column(batch: Any, name: str) -> Any:
    """A column of a record batch; None where there is none."""
    place = batch.schema.get_field_index(name)
    return None if place < 0 else batch.column(place)


def flattened(array: Any) -> tuple[NDArray[np.int64], Any]:
    """Of a list column: the row of each element, and the elements; objects as a record batch."""
    from pyarrow import RecordBatch, compute, types

    rows: NDArray[np.int64] = compute.list_parent_indices(array).to_numpy(zero_copy_only=False).astype(np.int64)
    values = compute.list_flatten(array)
    return rows, RecordBatch.from_struct_array(values) if types.is_struct(values.type) else values


def sizes(array: Any) -> NDArray[np.int64]:
    """Of a list column: how many elements each row has; 0 for null."""
    from pyarrow import compute

    lengths = compute.list_value_length(array).fill_null(0)
    found: NDArray[np.int64] = lengths.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def is_list_of(kind: Any, *fields: str) -> bool:
    """Whether a column type is a list of objects with these fields."""
    from pyarrow import types

    if not _is_list(kind) or not types.is_struct(kind.value_type):
        return False
    return {*fields} <= {field.name for field in kind.value_type}


def is_numbers(kind: Any, depth: int = 0) -> bool:
    """Whether a column type is a number, or so many lists deep a list of numbers."""
    from pyarrow import types

    if depth:
        return _is_list(kind) and is_numbers(kind.value_type, depth - 1)
    return kind is not None and bool(types.is_floating(kind) or types.is_integer(kind))


def known(*arrays: Floats) -> Mask:
    """Where none of them is NaN."""
    found: Mask = ~np.isnan(arrays[0])
    for array in arrays[1:]:
        found &= ~np.isnan(array)
    return found


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    if kind is None:
        return False
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
