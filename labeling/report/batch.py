"""A batch of labelled rows as NumPy columns, and what was judged in them, the same for every method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from preftree.engine.errors import OutputError
from preftree.labeling.orders import orders_agree
from preftree.labeling.terminal import one_line

Array = Any
_BATCH_ROWS = 1024
_UNNAMED = ("",)
_MASSES = ("label_mass_first", "label_mass_second")


@dataclass(frozen=True)
class Judgements:
    """Comparisons of two responses, each made in both orders. Probabilities are those of response A.

    Attributes:
        row: index in the batch of the row that each is of.
        name: index in `names` of the principle or set that each is made under.
        names: of principles or sets; one empty string where there are none.
        p: of both orders together.
        p_first: with A shown first.
        p_second: with B shown first.
        mass: the smaller label mass of the two orders; NaN where it is not known.
    """

    row: Array
    name: Array
    names: tuple[str, ...]
    p: Array
    p_first: Array
    p_second: Array
    mass: Array

    @property
    def gap(self) -> Array:
        """Above 0 leans to the response shown first."""
        return self.p_first - self.p_second

    @property
    def agree(self) -> Array:
        """Whether both orders prefer the same response."""
        return orders_agree(self.p_first, self.p_second)


class LabelBatch:
    """Labelled rows of a labels.parquet.

    Attributes:
        table: the rows, a pyarrow.Table.
    """

    def __init__(self, table: Any) -> None:
        """table: some rows of a labels.parquet; those that were rejected are left out."""
        if "status" in table.column_names:
            import pyarrow.compute as pc

            table = table.filter(pc.equal(table.column("status"), "ok"))
        self.table = table.combine_chunks()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def row(self, index: int) -> dict[str, Any]:
        """Every column of a row."""
        found: dict[str, Any] = self.table.slice(index, 1).to_pylist()[0]
        return found

    def numbers(self, name: str) -> Array | None:
        """A column as float64, NaN for null; None where there is no such column of numbers."""
        return None if (column := self._column(name)) is None else _numbers(column)

    def texts(self, name: str) -> Array | None:
        """A column of strings; None where there is none."""
        import pyarrow.types as types

        column = self._column(name)
        if column is None or not any(kind(column.type) for kind in (types.is_string, types.is_large_string)):
            return None
        return np.array(column.to_pylist(), dtype=object)

    def lists(self, name: str) -> list[Any] | None:
        """A column of lists; None where there is none."""
        return self._column(name).to_pylist() if self._is_list(name) else None

    @cached_property
    def judgements(self) -> Judgements | None:
        """None where responses were not compared with each other."""
        if self._is_list("principles"):
            return self._of_principles()
        if self._is_list("sets"):
            return self._of_sets()
        if self._is_list("win_matrix") and self._is_list("win_matrix_first"):
            return self._of_rankings()
        p, first, second = (self.numbers(name) for name in ("p_a", "p_a_first", "p_a_second"))
        if p is None or first is None or second is None:
            return None
        mass = _smaller(self.numbers("label_mass_first"), self.numbers("label_mass_second"), len(self))
        return Judgements(np.arange(len(self)), np.zeros(len(self), np.int64), _UNNAMED, p, first, second, mass)

    @cached_property
    def right(self) -> Array | None:
        """By row: 1 where the verdict agrees with gold, 0.5 for a tie, 0 where it does not; NaN without gold."""
        verdict, gold = self.texts("verdict"), self.texts("gold")
        if verdict is None or gold is None:
            return None
        found = np.where(verdict == "tie", 0.5, (verdict == gold).astype(float))
        found[~np.isin(gold, ("a", "b")) | ~np.isin(verdict, ("a", "b", "tie"))] = np.nan
        return found

    @property
    def mass(self) -> Array | None:
        """By row: the smallest label mass of its prompts; None where it is not known."""
        judged = self.judgements
        if judged is not None and not np.isnan(judged.mass).all():
            smallest = np.full(len(self), np.inf)
            np.fmin.at(smallest, judged.row, judged.mass)
            return np.where(np.isinf(smallest), np.nan, smallest)
        known = ("label_mass_min", "label_mass", "label_mass_a", "label_mass_b")
        found = [column for name in known if (column := self.numbers(name)) is not None]
        return np.fmin.reduce(found) if found else None

    def _of_principles(self) -> Judgements | None:
        """Scores are log-probabilities for A less those for B, in nats."""
        row, name, names, (first, second, mass_first, mass_second) = self._entries(
            "principles", "name", ("s12", "s21", *_MASSES)
        )
        if first is None or second is None:
            return None
        score = (first + second) / 2
        mass = _smaller(mass_first, mass_second, len(row))
        return Judgements(row, name, names, _logistic(score), _logistic(first), _logistic(second), mass)

    def _of_sets(self) -> Judgements | None:
        fields = ("p_a", "p_a_first", "p_a_second", *_MASSES)
        row, name, names, (p, first, second, mass_first, mass_second) = self._entries("sets", "set", fields)
        if p is None or first is None or second is None or np.isnan(p).all():
            return None
        pairs = ~np.isnan(p)
        mass = _smaller(mass_first, mass_second, len(row))
        return Judgements(row[pairs], name[pairs], names, p[pairs], first[pairs], second[pairs], mass[pairs])

    def _of_rankings(self) -> Judgements:
        """Every two responses that were compared, the one with the smaller index as A."""
        rows: list[int] = []
        found: list[tuple[float, float, float, float]] = []
        of_mass = self.lists("mass_matrix_first") or [None] * len(self)
        matrices = zip(self.lists("win_matrix") or [], self.lists("win_matrix_first") or [], of_mass, strict=True)
        for row, (wins, wins_first, mass) in enumerate(matrices):
            for i, j in compared(wins):
                smaller = min(mass[i][j], mass[j][i]) if mass else np.nan
                found.append((wins[i][j], wins_first[i][j], 1.0 - wins_first[j][i], smaller))
                rows.append(row)
        columns = np.array(found, dtype=float).reshape(-1, 4).T
        return Judgements(np.array(rows, np.int64), np.zeros(len(rows), np.int64), _UNNAMED, *columns)

    def _entries(self, column: str, name: str, fields: tuple[str, ...]) -> tuple[Array, Array, tuple[str, ...], Any]:
        """Of a column of lists of objects: the row of each entry, its name, all names, and its fields.

        A field that is not there is None.
        """
        import pyarrow.compute as pc

        lists = self._column(column)
        entries = pc.list_flatten(lists)
        known = [field.name for field in entries.type]
        row = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
        named = pc.struct_field(entries, name).dictionary_encode()
        found = [_numbers(pc.struct_field(entries, field)) if field in known else None for field in fields]
        names = tuple(str(text) for text in named.dictionary.to_pylist())
        return row, named.indices.to_numpy(zero_copy_only=False), names, found

    def _column(self, name: str) -> Any:
        """The only chunk of a column; None where there is no such column or it is not a plain one."""
        if name not in self.table.column_names:
            return None
        column = self.table.column(name)
        import pyarrow as pa

        return column.chunk(0) if column.num_chunks else pa.array([], column.type)

    def _is_list(self, name: str) -> bool:
        import pyarrow.types as types

        return name in self.table.column_names and types.is_list(self.table.schema.field(name).type)


def batches_of(path: Path) -> Iterator[LabelBatch]:
    """The labelled rows of a labels.parquet, some at a time. Raises OutputError where it cannot be read."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                yield LabelBatch(pa.Table.from_batches([batch]))
    except FileNotFoundError:
        raise OutputError(f"no such file: {path}; label the input again") from None
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"cannot read {path}: {one_line(str(error))}") from error


def compared(matrix: list[list[float | None]]) -> list[tuple[int, int]]:
    """Indices i < j of the responses that a win matrix compares."""
    return [(i, j) for i, line in enumerate(matrix) for j, p in enumerate(line) if i < j and p is not None]


def _numbers(column: Any) -> Array | None:
    import pyarrow.types as types

    if not (types.is_floating(column.type) or types.is_integer(column.type)):
        return None
    return column.cast("double").to_numpy(zero_copy_only=False).astype(float)


def _smaller(one: Array | None, other: Array | None, rows: int) -> Array:
    return np.full(rows, np.nan) if one is None or other is None else np.fmin(one, other)


def _logistic(score: Array) -> Array:
    """1 / (1 + exp(-score)), without overflow."""
    return np.exp(-np.logaddexp(0.0, -score))
