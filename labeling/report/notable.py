"""The rows of a run that are worth reading, found in one pass."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from preftree.labeling.report.batch import LabelBatch, batches_of

ROWS = 20


@dataclass(frozen=True)
class NotableRow:
    """A row and why it is shown.

    Attributes:
        row: every column of it.
        reasons: for people, the strongest kind first.
    """

    row: dict[str, Any]
    reasons: tuple[str, ...]


def position_gaps(batch: LabelBatch) -> Any:
    """By row: the largest position gap of its judgements; None where responses were not compared."""
    if (judged := batch.judgements) is None:
        return None
    widest = np.zeros(len(batch))
    np.fmax.at(widest, judged.row, np.abs(judged.gap))
    return widest


def disagreements(batch: LabelBatch) -> Any:
    """By row: the share of its judgements whose two orders prefer different responses, NaN for none of them."""
    if (judged := batch.judgements) is None:
        return None
    all_of, apart = (np.bincount(rows, minlength=len(batch)) for rows in (judged.row, judged.row[~judged.agree]))
    return np.where(apart > 0, apart / np.maximum(all_of, 1), np.nan)


def wrong_by_confidence(batch: LabelBatch) -> Any:
    """By row: the probability of a verdict that is not gold's, NaN where it is; None without gold or probabilities."""
    right, p_a = batch.right, batch.numbers("p_a")
    return None if right is None or p_a is None else np.where(right == 0, np.maximum(p_a, 1 - p_a), np.nan)


def wrong_by_reward(batch: LabelBatch) -> Any:
    """By row: how much more reward the response has that gold does not prefer; NaN where it has less, None without."""
    right, a, b = batch.right, batch.numbers("reward_a"), batch.numbers("reward_b")
    if right is None or a is None or b is None or batch.numbers("p_a") is not None:
        return None
    return np.where(right == 0, np.abs(a - b), np.nan)


def smallest_mass(batch: LabelBatch) -> Any:
    """By row: its smallest label mass with the sign turned; None where it is not known."""
    return None if (mass := batch.mass) is None else -mass


def in_order(batch: LabelBatch) -> Any:
    """By row: the same value."""
    return np.zeros(len(batch))


class Measure(NamedTuple):
    """What rows are ranked by.

    Attributes:
        text: what a value means, with a place for it.
        values: of a batch by row, the largest first; NaN where a row is out of the question, None where all are.
        text_of_1: what a value of 1 means, where that is said in other words.
    """

    text: str
    values: Callable[[LabelBatch], Any]
    text_of_1: str = ""


ORDER = Measure("", in_order)
GAP = Measure("position gap {:.3f}", position_gaps)
DISAGREEMENT = Measure("the orders disagree on {:.0%} of its judgements", disagreements, "the two orders disagree")
WRONG = Measure("wrong with confidence {:.3f}", wrong_by_confidence)
WRONG_REWARD = Measure("wrong by a difference in reward of {:.3f}", wrong_by_reward)
MASS = Measure("label mass {:.3f}", smallest_mass)


@dataclass
class Ranking:
    """The rows with the largest values of one measure.

    Attributes:
        measure: what they are ranked by.
        most: rows to keep.
    """

    measure: Measure
    most: int = ROWS
    _heap: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    _ticket: Any = field(default_factory=lambda: count(0, -1))

    def add(self, batch: LabelBatch) -> None:
        """More rows, in the order of the file. Of equal ones the earlier row is kept."""
        values = self.measure.values(batch)
        if values is None:
            return
        values = np.where(np.isnan(values), -np.inf, values)
        for index in np.argsort(-values, kind="stable")[: self.most]:
            value = float(values[index])
            if value == -np.inf or (len(self._heap) == self.most and value <= self._heap[0][0]):
                break
            entry = (value, next(self._ticket), batch.row(int(index)))
            (heapq.heappushpop if len(self._heap) == self.most else heapq.heappush)(self._heap, entry)

    def rows(self) -> list[NotableRow]:
        """The best first, each with its value in words."""
        best = sorted(self._heap, key=lambda entry: entry[:2], reverse=True)
        return [NotableRow(row, self._reasons(value)) for value, _, row in best]

    def _reasons(self, value: float) -> tuple[str, ...]:
        measure = self.measure
        text = measure.text_of_1 if value == 1 and measure.text_of_1 else measure.text.format(abs(value))
        return (text,) if text else ()


class Notable:
    """Rows with the largest position gap, the most confident wrong verdict and the smallest label mass."""

    def __init__(self) -> None:
        self._rankings = [Ranking(measure) for measure in (GAP, WRONG, WRONG_REWARD, MASS)]

    def add(self, batch: LabelBatch) -> None:
        """More rows, in the order of the file."""
        for ranking in self._rankings:
            ranking.add(batch)

    def rows(self) -> list[NotableRow]:
        """At most twenty, each once: the kinds take turns. Within a kind the most notable come first."""
        kinds = [rows for ranking in self._rankings if (rows := ranking.rows())]
        chosen: dict[str, tuple[int, NotableRow]] = {}
        turns = [(place, number) for place in range(ROWS) for number in range(len(kinds)) if place < len(kinds[number])]
        for place, number in turns:
            found = kinds[number][place]
            identity = str(found.row["id"])
            if identity not in chosen and len(chosen) < ROWS:
                chosen[identity] = (number, found)
            elif identity in chosen and place < ROWS // len(kinds):
                first, entry = chosen[identity]
                chosen[identity] = (first, NotableRow(entry.row, entry.reasons + found.reasons))
        return [entry for _, entry in sorted(chosen.values(), key=lambda one: one[0])]


def notable_rows(path: Path, measure: Measure, most: int) -> list[NotableRow]:
    """The rows of a labels.parquet with the largest values of one measure. Raises OutputError."""
    ranking = Ranking(measure, most)
    for batch in batches_of(path):
        ranking.add(batch)
    return ranking.rows()
