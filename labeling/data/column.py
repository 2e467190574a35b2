"""An Arrow column as JSON has it: its kind where it passes through, its values as JSON values.

What JSON has no word for becomes text: times and decimals as Arrow writes them, bytes as base64. NaN and infinities
become null, as they do in JSON lines.
"""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any, NamedTuple

from preftree.engine.errors import InputError
from preftree.labeling.data.columns import Kind
from preftree.labeling.data.row import BadRow
from preftree.labeling.terminal import one_line


class Values(NamedTuple):
    """has_bad: whether some are BadRow, for what is no text."""

    values: list[Any]
    has_bad: bool = False


def column_kind(path: Path, field: Any) -> Kind:
    """How a column passes through. InputError for a type that has no values to speak of."""
    from pyarrow import types

    kind = _stored(field.type)
    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind):
        return "int"
    if types.is_floating(kind):
        return "float"
    if types.is_union(kind) or types.is_run_end_encoded(kind):
        raise InputError(f"{path}: column {one_line(field.name)} has type {field.type}, which is not read; drop it")
    return "json" if types.is_nested(kind) else "string"


def column_values(path: Path, name: str, column: Any) -> Values:
    """Raises InputError where values cannot be Python's, such as nanoseconds inside lists."""
    try:
        plain = _plain(column)
        try:
            return Values(_python_values(plain))
        except UnicodeDecodeError:
            values = [_one_value(plain.slice(index, 1)) for index in range(len(plain))]
            return Values(values, has_bad=True)
    except (ValueError, OverflowError, NotImplementedError) as error:  # pyarrow's errors of casting among them
        raise InputError(f"{path}: column {one_line(name)} cannot be read ({one_line(str(error))}); drop it") from error


def _stored(kind: Any) -> Any:
    """The type of values behind dictionaries and extensions."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _stored(kind.value_type)
    return _stored(kind.storage_type) if hasattr(kind, "storage_type") else kind


def _plain(column: Any) -> Any:
    """The column with values of a type that JSON has, where its type is not nested."""
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        return _plain(column.dictionary_decode())
    if hasattr(column.type, "storage_type"):
        return _plain(column.storage)
    if types.is_floating(column.type):
        wide = column.cast("double")
        return compute.if_else(compute.is_finite(wide), wide, None)
    if types.is_temporal(column.type) or types.is_decimal(column.type):
        return column.cast("string")
    return column


def _python_values(column: Any) -> list[Any]:
    values: list[Any] = column.to_pylist()
    return values if _is_json(column.type) else [json_value(value) for value in values]


def _one_value(column: Any) -> Any:
    try:
        return _python_values(column)[0]
    except UnicodeDecodeError as error:
        return BadRow(f"invalid UTF-8: byte 0x{error.object[error.start]:02x}")


def _is_json(kind: Any) -> bool:
    """Whether Python's values of an Arrow type are JSON values already. A double is: `_plain` has seen to it."""
    from pyarrow import types

    if types.is_struct(kind):
        return all(_is_json(field.type) and not types.is_floating(field.type) for field in kind)
    if types.is_list(kind) or types.is_large_list(kind):
        return _is_json(kind.value_type) and not types.is_floating(kind.value_type)
    is_text = types.is_string(kind) or types.is_large_string(kind)
    return is_text or types.is_integer(kind) or types.is_boolean(kind) or kind == "double" or types.is_null(kind)


def json_value(value: Any) -> Any:
    """A Python value out of Arrow as one of JSON."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, dict):
        return {str(name): json_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    return str(value)
