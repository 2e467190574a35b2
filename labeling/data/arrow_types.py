"""The types of Arrow columns that become JSON values. Columns of other types (unions, intervals) are never read."""

from __future__ import annotations

from typing import Any

from preftree.labeling.terminal import one_line

_FLAT = (
    *("is_null", "is_boolean", "is_integer", "is_floating", "is_decimal"),
    *("is_date", "is_time", "is_timestamp", "is_duration"),
    *("is_string", "is_large_string", "is_string_view"),
    *("is_binary", "is_large_binary", "is_binary_view", "is_fixed_size_binary"),
)
_OF_VALUES = (
    *("is_list", "is_large_list", "is_fixed_size_list", "is_list_view", "is_large_list_view"),
    *("is_dictionary", "is_run_end_encoded"),
)
_SHOWN = 60


def is_read(kind: Any) -> bool:
    """Whether values of this type can be read, those inside of it included."""
    from pyarrow import types

    if hasattr(kind, "storage_type"):
        return is_read(kind.storage_type)
    if any(getattr(types, name)(kind) for name in _FLAT):
        return True
    if any(getattr(types, name)(kind) for name in _OF_VALUES):
        return is_read(kind.value_type)
    if types.is_map(kind):
        return is_read(kind.key_type) and is_read(kind.item_type)
    return types.is_struct(kind) and all(is_read(kind.field(place).type) for place in range(kind.num_fields))


def named(kind: Any) -> str:
    """A type in a message, on one line and not too long."""
    text = one_line(str(kind))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
