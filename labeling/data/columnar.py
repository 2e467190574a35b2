"""A batch of columns, as data frames and their engines hold it: read as rows, and given back with more columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.data.arrow import json_value
from preftree.labeling.data.columns import check_names
from preftree.labeling.data.objects import PLACE, Records, source_of
from preftree.labeling.data.row import rivals
from preftree.labeling.data.source import Source


class Columns(Protocol):
    """A batch of any kind.

    Attributes:
        names: of its columns.
        length: rows.
    """

    @property
    def names(self) -> list[str]: ...
    @property
    def length(self) -> int: ...

    def source(self) -> Source:
        """Its rows, as JSON values."""

    def extended(self, renamed: Mapping[str, str], added: Any) -> Any:
        """A batch of the same kind: its own columns, each called what `renamed` says, then those of a pyarrow.Table."""


def columns_of(batch: Any) -> Columns:
    """UsageError for what is no batch, InputError for one whose columns are too many, or do not fit together."""
    library = type(batch).__module__.partition(".")[0]
    found: Columns
    if library == "pyarrow" and hasattr(batch, "to_batches"):
        found = ArrowColumns(batch)
    elif library == "pandas" and hasattr(batch, "columns"):
        found = FrameColumns(batch)
    elif isinstance(batch, Mapping):
        found = ArrayColumns(batch)
    else:
        raise UsageError(
            f"{type(batch).__name__} is no batch of columns; hand over a pyarrow.Table, a pandas DataFrame or a "
            "dictionary of arrays"
        )
    check_names(PLACE, found.names)
    return found


@dataclass(frozen=True)
class ArrowColumns:
    """Of a pyarrow.Table."""

    table: Any

    @property
    def names(self) -> list[str]:
        return list(self.table.schema.names)

    @property
    def length(self) -> int:
        return int(self.table.num_rows)

    def source(self) -> Source:
        return source_of(self.table)

    def extended(self, renamed: Mapping[str, str], added: Any) -> Any:
        table = self.table.rename_columns(list(renamed.values()))
        for field, column in zip(added.schema, added.columns, strict=True):
            table = table.append_column(field, column)
        return table


@dataclass(frozen=True)
class FrameColumns:
    """Of a pandas DataFrame. A column of objects may hold values of several types, which Arrow's cannot."""

    frame: Any

    @property
    def names(self) -> list[str]:
        return list(map(str, self.frame.columns))

    @property
    def length(self) -> int:
        return len(self.frame)

    def source(self) -> Source:
        columns = [self.frame.iloc[:, place] for place in range(self.frame.shape[1])]
        return _records(self.names, [one.astype(object).where(one.notna(), None).tolist() for one in columns])

    def extended(self, renamed: Mapping[str, str], added: Any) -> Any:
        more = added.to_pandas().set_axis(self.frame.index)
        return self.frame.set_axis(list(renamed.values()), axis=1).assign(**{name: more[name] for name in more})


@dataclass(frozen=True)
class ArrayColumns:
    """Of a dictionary of arrays or lists.

    Engines guess the type of a column from its values. So that they guess the same for every batch, numbers and strings
    come as arrays whose type needs no value, where NaN and "" stand for one that is not there.
    """

    arrays: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        return list(map(str, self.arrays))

    @property
    def length(self) -> int:
        lengths = {len(values) for values in self.arrays.values()}
        if len(lengths) > 1:
            raise InputError(f"the columns of a batch have different lengths: {', '.join(map(str, sorted(lengths)))}")
        return lengths.pop() if lengths else 0

    def source(self) -> Source:
        return _records(self.names, [_values(column) for column in self.arrays.values()])

    def extended(self, renamed: Mapping[str, str], added: Any) -> Any:
        own = dict(zip(renamed.values(), self.arrays.values(), strict=True))
        return own | {name: _array(added.column(name)) for name in added.schema.names}


def _records(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> Records:
    """A null is left out where only some rows can have a value, as of an Arrow table."""
    optional = rivals(names)
    rows = (zip(names, map(_json, values), strict=True) for values in zip(*columns, strict=True))
    return Records([{k: v for k, v in row if v is not None or k not in optional} for row in rows])


def _values(column: Any) -> list[Any]:
    """Of an array of NumPy, Arrow, pandas or torch, or of a list."""
    return list(column.tolist() if hasattr(column, "tolist") else column)


def _json(value: Any) -> Any:
    """A Python value of JSON; NumPy's arrays and numbers may lie inside of lists."""
    import numpy as np

    if isinstance(value, np.generic):
        return json_value(value.item())
    if isinstance(value, np.ndarray | list | tuple):
        return [_json(inner) for inner in value]
    if isinstance(value, dict):
        return {str(name): _json(inner) for name, inner in value.items()}
    return json_value(value)


def _array(column: Any) -> Any:
    """An Arrow column as an array of NumPy whose type does not depend on its values, as far as there is one."""
    import numpy as np
    from pyarrow import types

    if types.is_string(column.type):
        return np.array(["" if text is None else text for text in column.to_pylist()], dtype=np.str_)
    if types.is_floating(column.type):
        return column.to_numpy()
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values
