"""How good rankings of several responses are: the figures of their comparisons, and circular triads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from preftree.engine.errors import InputError
from preftree.labeling.report.agreement import Agreement
from preftree.labeling.report.arrays import Floats, column, numbers, probabilities, sizes
from preftree.labeling.report.intervals import share
from preftree.labeling.report.pairs import LENGTHS, PairColumns, PairFigures
from preftree.labeling.terminal import count

MATRICES = ("win_matrix", "win_matrix_first", "mass_matrix_first")
_OF_PAIRS = (
    "pairs",
    "ties",
    "low_mass",
    "position_bias",
    "prefers_first",
    "consistent",
    "mean_gap",
    "mean_absolute_gap",
    "mean_label_mass",
    "length_bias",
)
_MAX_ENTRIES = 1 << 20


class RankingFigures:
    """Running figures over ranked rows: those of their comparisons, and circular triads.

    A triad is circular when i beats j, j beats k and k beats i (Kendall and Babington Smith 1940): no ranking agrees
    with it. A judge that tosses coins makes a quarter of all triads circular.
    """

    def __init__(self) -> None:
        self.rows = self.triads = self.circular = 0
        self.pairs = PairFigures(win_rate=None)
        self.gold = Agreement()

    def add(self, batch: Any) -> None:
        """The rows of a record batch with the columns of labels.parquet."""
        batch = batch.filter(column(batch, "win_matrix").is_valid())
        self.rows += len(batch)
        for size, some in _of_one_size(batch):
            table = {name: _stacked(column(some, name), name, size) for name in MATRICES if column(some, name)}
            self._add_comparisons(table, _lengths(some, size))
            self._add_triads(np.nan_to_num(table["win_matrix"], nan=0.5))

    def _add_comparisons(self, table: dict[str, Floats], lengths: Floats | None) -> None:
        """Of i < j, row by row: A is i and B is j."""
        wins = table["win_matrix"]
        i, j = np.triu_indices(wins.shape[1], 1)
        there = ~np.isnan(wins[:, i, j])
        first, mass = table.get("win_matrix_first"), table.get("mass_matrix_first")
        p_a = wins[:, i, j][there]
        self.pairs.add_columns(
            PairColumns(
                p_a,
                np.sign(p_a - 0.5).astype(np.int8),
                None if first is None else first[:, i, j][there],
                None if first is None else 1.0 - first[:, j, i][there],
                None if mass is None else mass[:, i, j][there],
                None if mass is None else mass[:, j, i][there],
                None,
                None if lengths is None else np.stack((lengths[:, i], lengths[:, j]), axis=-1)[there],
            )
        )

    def _add_triads(self, wins: Floats) -> None:
        """Of triples with a winner in each comparison: how many there are, and in how many each has won one."""
        beats = (wins > 0.5).astype(np.float64)
        met = beats + beats.swapaxes(1, 2)
        self.triads += round(float(((met @ met) * met).sum())) // 6
        self.circular += round(float(((beats @ beats) * beats.swapaxes(1, 2)).sum())) // 3

    def figures(self) -> dict[str, Any]:
        """For run.json; pairs are comparisons in both orders."""
        of_pairs = self.pairs.figures()
        own: dict[str, Any] = {"rows": self.rows, "triads": self.triads, "circular_triads": self.circular}
        return {
            **own,
            "circular_share": share(self.circular, self.triads),
            **{name: of_pairs[name] for name in _OF_PAIRS},
        }

    def lines(self) -> list[tuple[str, str]]:
        if not self.rows:
            return []
        lines = [("comparisons", f"{count(self.pairs.pairs, 'pair')} of responses, each in both orders")]
        if self.triads:
            circles = f"{self.circular:,} of {count(self.triads, 'triad')}"
            text = f"{self.circular / self.triads:.1%}: {circles} have no order among themselves (tossed coins: 25.0%)"
            lines.append(("circular triads", text))
        return lines + self.pairs.lines()

    def briefly(self) -> list[str]:
        """The figures on one line; none where there are no rows."""
        circles = f", {self.circular / self.triads:.1%} of triads circular" if self.triads else ""
        return [f"{text}{circles}" for text in self.pairs.briefly()]


def _of_one_size(batch: Any) -> Iterator[tuple[int, Any]]:
    """Rows with as many responses each, so few that their matrices are small."""
    import pyarrow as pa

    number = sizes(column(batch, "win_matrix"))
    for size in np.unique(number):
        some = batch.filter(pa.array(number == size))
        step = max(1, _MAX_ENTRIES // max(1, int(size) ** 2))
        for start in range(0, len(some), step):
            yield int(size), some.slice(start, step)


def _stacked(matrices: Any, name: str, size: int) -> Floats:
    """[rows, size, size]. InputError for matrices of another shape."""
    from pyarrow import compute

    lines = compute.list_flatten(matrices)
    if matrices.null_count or (sizes(matrices) != size).any() or (sizes(lines) != size).any():
        raise InputError(f"column {name}: each row needs a square matrix, one line a response")
    read = numbers if name == MATRICES[2] else probabilities
    return read(compute.list_flatten(lines), name).reshape(-1, size, size)


def _lengths(batch: Any, size: int) -> Floats | None:
    """[rows, size]: characters of each response; None where they are not known."""
    from pyarrow import compute

    lengths = column(batch, LENGTHS)
    if lengths is None or (sizes(lengths) != size).any():
        return None
    return numbers(compute.list_flatten(lengths), LENGTHS).reshape(-1, size)
