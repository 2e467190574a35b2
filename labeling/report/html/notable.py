"""The rows of a run that are worth reading, found in one pass."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from preftree.labeling.report.html.batch import LabelBatch

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


@dataclass
class Ranking:
    """The rows with the largest values of one measure.

    Attributes:
        text: what a value means, with a place for it.
        sign: -1 where the smallest values are wanted.
    """

    text: str
    sign: float = 1.0
    _heap: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    _ticket: Any = field(default_factory=lambda: count(0, -1))

    def add(self, batch: LabelBatch, values: Any) -> None:
        """values: by row; NaN where a row is out of the question. Of equal ones the earlier row is kept."""
        signed = np.where(np.isnan(values), -np.inf, self.sign * values)
        for index in np.argsort(-signed, kind="stable")[:ROWS]:
            value = float(signed[index])
            if value == -np.inf or (len(self._heap) == ROWS and value <= self._heap[0][0]):
                break
            entry = (value, next(self._ticket), batch.row(int(index)))
            (heapq.heappushpop if len(self._heap) == ROWS else heapq.heappush)(self._heap, entry)

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """The best first, each with its value in words."""
        best = sorted(self._heap, key=lambda entry: entry[:2], reverse=True)
        return [(self.text.format(self.sign * value), row) for value, _, row in best]


class Notable:
    """Rows with the largest position gap, the most confident wrong verdict and the smallest label mass."""

    def __init__(self) -> None:
        self._gap = Ranking("position gap {:.3f}")
        self._wrong = Ranking("wrong with confidence {:.3f}")
        self._wrong_score = Ranking("wrong by a difference in reward of {:.3f}")
        self._mass = Ranking("label mass {:.3f}", sign=-1.0)

    def add(self, batch: LabelBatch) -> None:
        """More rows, in the order of the file."""
        judged, right = batch.judgements, batch.right
        if judged is not None:
            widest = np.zeros(len(batch))
            np.fmax.at(widest, judged.row, np.abs(judged.gap))
            self._gap.add(batch, widest)
        p_a, rewards = batch.numbers("p_a"), (batch.numbers("reward_a"), batch.numbers("reward_b"))
        if right is not None and p_a is not None:
            self._wrong.add(batch, np.where(right == 0, np.maximum(p_a, 1 - p_a), np.nan))
        elif right is not None and rewards[0] is not None and rewards[1] is not None:
            self._wrong_score.add(batch, np.where(right == 0, np.abs(rewards[0] - rewards[1]), np.nan))
        if (mass := batch.mass) is not None:
            self._mass.add(batch, mass)

    def rows(self) -> list[NotableRow]:
        """At most twenty, each once: the kinds take turns. Within a kind the most notable come first."""
        found = (kind.rows() for kind in (self._gap, self._wrong, self._wrong_score, self._mass))
        kinds = [rows for rows in found if rows]
        chosen: dict[str, tuple[int, NotableRow]] = {}
        turns = [(place, number) for place in range(ROWS) for number in range(len(kinds)) if place < len(kinds[number])]
        for place, number in turns:
            reason, row = kinds[number][place]
            identity = str(row["id"])
            if identity not in chosen and len(chosen) < ROWS:
                chosen[identity] = (number, NotableRow(row, (reason,)))
            elif identity in chosen and place < ROWS // len(kinds):
                first, entry = chosen[identity]
                chosen[identity] = (first, NotableRow(entry.row, (*entry.reasons, reason)))
        return [entry for _, entry in sorted(chosen.values(), key=lambda one: one[0])]
