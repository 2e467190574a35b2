"""Figures of labels that a test holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from preftree.labeling.data.columns import ColumnKinds
from preftree.labeling.data.dataset import DatasetInfo
from preftree.labeling.data.label_table import LabelTable
from preftree.labeling.report.figures import Figures
from preftree.labeling.types import ArrowType, Label, PairLabel, Sample


def queried(
    rows: Sequence[tuple[Sample, Label]],
    subset: str | None = None,
    columns: Mapping[str, ArrowType] = PairLabel.COLUMNS,
) -> Figures:
    """Of these rows as labels.parquet has them. columns: those of the labels."""
    kinds = ColumnKinds()
    for sample, _ in rows:
        kinds.add(sample.extra)
    has_gold = any(getattr(sample, "gold", None) is not None for sample, _ in rows)
    info = DatasetInfo("rows", len(rows), kinds.resolve(), has_gold, {}, None)
    table: Any = LabelTable(info, columns)
    figures = Figures(table.schema, subset)
    figures.add(table.batch(rows))
    return figures
