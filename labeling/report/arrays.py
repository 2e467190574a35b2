"""Columns of labels.parquet as NumPy arrays: numbers with NaN for null, choices as small integers, lists flattened."""

from __future__ import annotations

from collections.abc import Sequence
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
    from pyarrow import compute, types

    if not (types.is_floating(array.type) or types.is_integer(array.type) or types.is_null(array.type)):
        raise InputError(f"column {one_line(name)} holds {array.type}, not numbers")
    try:
        cast = compute.cast(array, pa.float64(), safe=False)
    except pa.ArrowException as error:
        raise InputError(f"column {one_line(name)} cannot be read: {one_line(str(error))}") from None
    found: Floats = cast.to_numpy(zero_copy_only=False)
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
    from pyarrow import compute, types

    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if not (types.is_string(array.type) or types.is_large_string(array.type)):
        return np.full(len(array), NONE, np.int8)
    places = compute.index_in(array.cast("string"), pa.array(["b", "tie", "a"]))
    found: Choices = (places.fill_null(NONE + 1).to_numpy(zero_copy_only=False) - 1).astype(np.int8)
    return found


def column(batch: Any, name: str) -> Any:
    """The column of a record batch, or the field of a struct array; None where there is none."""
    import pyarrow as pa

    names = batch.schema.names if isinstance(batch, pa.RecordBatch) else [field.name for field in batch.type]
    if name not in names:
        return None
    return batch.column(names.index(name)) if isinstance(batch, pa.RecordBatch) else batch.field(name)


def flattened(array: Any) -> tuple[NDArray[np.int64], Any]:
    """Of a list column: the row of each element, and the elements."""
    from pyarrow import compute

    rows: NDArray[np.int64] = compute.list_parent_indices(array).to_numpy(zero_copy_only=False).astype(np.int64)
    return rows, compute.list_flatten(array)


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


def of_mask(mask: Mask, arrays: Sequence[Any]) -> list[Any]:
    """Each of the arrays where the mask is true; None stays None."""
    return [None if array is None else array[mask] for array in arrays]


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    if kind is None:
        return False
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
