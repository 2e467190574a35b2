"""Rows and their labels as Arrow tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from preftree.labeling.data.columns import IMITATES, label_columns, output_names, stored
from preftree.labeling.data.dataset import DatasetInfo
from preftree.labeling.data.plain import PlainRows
from preftree.labeling.types import ArrowType, Label, Pair, Rejected, Response, ResponseSet, Sample

_ARROW_TYPES = {"string": "string", "json": "string", "int": "int64", "float": "double", "bool": "bool"}


class LabelTable:
    """Rows and their labels as Arrow record batches, with the columns of labels.parquet."""

    def __init__(
        self,
        info: DatasetInfo,
        columns: Mapping[str, ArrowType],
        imitates: Callable[[Sample], bool] | None = None,
        filled: Mapping[str, ArrowType] | None = None,
    ) -> None:
        """Choose the columns.

        Args:
            info: of the input.
            columns: those of the labels' method, see `preftree.labeling.types.Label`. Columns of the input do not take
                their names, whether labels of this input have values there or not.
            imitates: whether a sample holds lines of the template; None, for which there is no column, where there is
                no template.
            filled: of `columns` those to write (default: all), nested ones maybe with fewer fields.
        """
        self._info = info
        self._imitates = imitates
        self._columns = columns if filled is None else filled
        self._nothing = dict.fromkeys(self._columns)
        self.schema = _schema(info, columns, self._columns, imitates is not None)

    def batch(self, rows: Sequence[tuple[Sample | Rejected, Label | None]]) -> Any:
        """A column at a time, while the rows are still in the processor's caches. None is a rejected row's label."""
        import pyarrow as pa

        items = [item for item, _ in rows]
        labels = [self._nothing if label is None else label.values() for _, label in rows]
        columns: list[list[Any]] = [
            [item.id for item in items],
            *([values[name] for values in labels] for name in self._columns),
            ["rejected" if label is None else "ok" for _, label in rows],
            [f"{self._info.place(item.line)}: {item.reason}" if isinstance(item, Rejected) else None for item in items],
            [None if label is None else label.prompt_tokens for _, label in rows],
            [None if label is None else _lengths(item) for item, label in rows],
        ]
        if (imitates := self._imitates) is not None:
            columns.append([None if isinstance(item, Rejected) else imitates(item) for item in items])
        if self._info.has_gold:
            columns.append([getattr(item, "gold", None) for item in items])
        for name, kind in self._info.columns.items():
            columns.append(stored([item.extra.get(name) for item in items], kind))
        arrays = [pa.array(values, field.type) for values, field in zip(columns, self.schema, strict=True)]
        return pa.record_batch(arrays, schema=self.schema)

    def plain_batch(self, rows: PlainRows, labels: Mapping[str, Any], prompt_tokens: Any, imitates: Any | None) -> Any:
        """`batch` of rows that all have labels, whatever a column is made of: pyarrow and NumPy arrays.

        Args:
            rows: one or more.
            labels: the columns of the method.
            prompt_tokens: of each row.
            imitates: what the function of that name says of each row; None where there is none.
        """
        import pyarrow as pa

        count = len(rows)
        columns: list[Any] = [
            rows.ids,
            *(labels[name] for name in self._columns),
            pa.repeat("ok", count),
            pa.nulls(count, pa.string()),
            prompt_tokens,
            _all_lengths(rows),
            *(() if imitates is None else (imitates,)),
        ]
        if self._info.has_gold:
            columns.append(pa.nulls(count, pa.string()) if rows.gold is None else rows.gold)
        types = self.schema.types[len(columns) :]
        for (name, kind), arrow_type in zip(self._info.columns.items(), types, strict=True):
            columns.append(rows.stored(name, kind, arrow_type))
        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column, field.type)
            for column, field in zip(columns, self.schema, strict=True)
        ]
        return pa.record_batch(arrays, schema=self.schema)


def _lengths(item: Sample | Rejected) -> list[int]:
    """Characters of each response."""
    if isinstance(item, Pair):
        return [len(item.response_a), len(item.response_b)]
    if isinstance(item, Response):
        return [len(item.response)]
    return [len(text) for text in item.responses] if isinstance(item, ResponseSet) else []


def _all_lengths(rows: PlainRows) -> Any:
    """`_lengths` of every row."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import compute

    lengths = np.column_stack([compute.utf8_length(texts).to_numpy() for texts in rows.responses])
    ends = np.arange(len(rows) + 1, dtype=np.int32) * lengths.shape[1]
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(lengths.ravel(), pa.int64()))


def _schema(
    info: DatasetInfo, columns: Mapping[str, ArrowType], filled: Mapping[str, ArrowType], has_template: bool
) -> Any:
    import pyarrow as pa

    types = _own_columns(info, filled)
    if not has_template:
        del types[IMITATES]
    names = names_of_input(info, columns)
    types |= {names[name]: _ARROW_TYPES[kind] for name, kind in info.columns.items()}
    return pa.schema([(name, arrow_type(spec)) for name, spec in types.items()])


def names_of_input(info: DatasetInfo, columns: Mapping[str, ArrowType]) -> dict[str, str]:
    """What the columns that pass through are called among the labels, by their names in the input."""
    return output_names(info.columns, reserved=list(_own_columns(info, columns)))


def _own_columns(info: DatasetInfo, columns: Mapping[str, ArrowType]) -> dict[str, ArrowType]:
    return label_columns(columns) | ({"gold": "string"} if info.has_gold else {})


def arrow_type(spec: ArrowType) -> Any:
    """Arrow's type of a column."""
    import pyarrow as pa

    if isinstance(spec, list):
        return pa.list_(arrow_type(spec[0]))
    if isinstance(spec, dict):
        return pa.struct([(name, arrow_type(inner)) for name, inner in spec.items()])
    return pa.type_for_alias(spec)
