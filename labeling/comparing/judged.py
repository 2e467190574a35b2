"""What combinations said of the pairs, read from the labels of their runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from preftree.engine.errors import OutputError
from preftree.labeling.report.arrays import TIE, A, B, Choices, Floats, Mask, choices, column, flattened
from preftree.labeling.report.pairs import PairColumns, PairFigures, pair_columns
from preftree.labeling.terminal import one_line

GOLD = {A: "a", B: "b", TIE: "tie"}


@dataclass(frozen=True)
class Judged:
    """One combination, pair by pair.

    Attributes:
        ids: of the pairs.
        columns: their labels and gold, in the same order.
    """

    ids: tuple[str, ...]
    columns: PairColumns

    @property
    def gold(self) -> Choices:
        assert self.columns.gold is not None
        return self.columns.gold

    @property
    def right(self) -> Floats:
        """1 where the verdict agrees with gold, 0.5 where it ties, 0 else."""
        verdict = self.columns.verdict
        return np.where(verdict == TIE, 0.5, (verdict == self.gold).astype(float))

    @property
    def mass(self) -> Floats | None:
        """Mean label mass of both orders."""
        of = self.columns
        return None if of.mass_first is None or of.mass_second is None else (of.mass_first + of.mass_second) / 2

    def where(self, mask: Mask) -> Judged:
        ids = tuple(one for one, is_in in zip(self.ids, mask.tolist(), strict=True) if is_in)
        return Judged(ids, self.columns.where(mask))

    def figures(self) -> dict[str, Any]:
        running = PairFigures(win_rate=None)
        running.add_columns(self.columns)
        return running.figures()


def judged(labels: Path) -> dict[str, Judged]:
    """By name of the combination: the labels of a run of method `Several`. Raises OutputError."""
    import pyarrow as pa
    from pyarrow import compute, parquet

    try:
        table = parquet.read_table(labels, columns=["id", "status", "gold", "sets"])
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"cannot read {labels}: {one_line(str(error))}") from error
    table = table.filter(compute.equal(table.column("status"), "ok")).combine_chunks()
    ids, gold = tuple(table.column("id").to_pylist()), choices(table.column("gold").combine_chunks())
    _, entries = flattened(table.column("sets").combine_chunks())
    number = len(entries) // max(1, len(ids))
    names = column(entries, "set")[:number].to_pylist()
    return {
        name: Judged(ids, pair_columns(entries.take(pa.array(range(place, len(entries), number))), gold, None))
        for place, name in enumerate(names)
    }


def in_common(found: Mapping[Any, Judged]) -> dict[Any, Judged]:
    """The pairs that every combination has judged, in one order."""
    shared = set.intersection(*(set(one.ids) for one in found.values())) if found else set()
    return {key: one.where(np.array([name in shared for name in one.ids], bool)) for key, one in found.items()}
