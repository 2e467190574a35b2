"""Scores by principle, as a finished run of method salmon left them. Streams, but for the numbers of a variance."""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError, OutputError
from preftree.labeling.data.dataset import read
from preftree.labeling.data.labelled import label_rows
from preftree.labeling.data.labels_file import LABELS, RUN
from preftree.labeling.principles.principle import Principle, weight_problem
from preftree.labeling.runs.recorded import finished_run
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Pair

_COLUMNS = ("id", "status", "principles")


@dataclass(frozen=True)
class ScoredRow:
    """A row of labels.parquet. s12, s21: of each principle, the logit for A less that for B, with A shown first and
    second. scores: their mean, 0 where the principle is not consistent. All three are empty where the row was rejected.
    """

    id: str | None
    s12: tuple[float, ...] = ()
    s21: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()


class SalmonLabels:
    """Raises OutputError where `directory` holds no finished run, and InputError for one of another method."""

    def __init__(self, directory: Path) -> None:
        self.path, self.run_path = directory / LABELS, directory / RUN
        self.run = finished_run(directory)
        method = self.run["method"]
        name = method.get("name") if isinstance(method, dict) else None
        if name != "salmon":
            raise InputError(f"{directory} holds labels of method {name}; instructions are made of --method salmon's")
        try:
            self.principles = tuple(_principle(entry) for entry in method["principles"])
        except (KeyError, TypeError, ValueError):
            raise OutputError(f"{self.run_path} does not say which principles were judged") from None

    def variances(self) -> dict[str, float]:
        """Of each principle: that of its scores in single orders, two of every pair, consistent or not.

        So the released code has it. Means of two orders would vary the less the more the orders disagree.
        """
        scores = {principle.name: array("d") for principle in self.principles}
        for row in self.rows():
            for found, *both in zip(scores.values(), row.s12, row.s21, strict=False):
                found.extend(both)
        return {name: variance(found) for name, found in scores.items()}

    def pairs(self, source: Path) -> Iterator[tuple[Pair | None, ScoredRow]]:
        """The labels with the pairs of `source` that they are of, in order; None for one that was rejected."""
        settings = self.run["settings"]
        items = read(source, settings.get("limit"), settings.get("mapping", ()))
        for item, row in zip_longest(items, self.rows()):
            if row is not None and item is not None and not row.scores:
                yield None, row
            elif row is not None and isinstance(item, Pair) and item.id == row.id:
                yield item, row
            else:
                raise OutputError(f"{self.path} is not complete or does not belong to {source}; label the input again")

    def rows(self) -> Iterator[ScoredRow]:
        """In the order of the input. Raises OutputError where they cannot be read."""
        yield from map(self._row, label_rows(self.path, _COLUMNS))

    def _row(self, row: Mapping[str, Any]) -> ScoredRow:
        if row["status"] != "ok":
            return ScoredRow(row["id"])
        try:
            judged = {entry["name"]: entry for entry in row["principles"]}
            mine = [judged[principle.name] for principle in self.principles]
            s12, s21 = tuple(entry["s12"] for entry in mine), tuple(entry["s21"] for entry in mine)
            scores = tuple(entry["score"] if entry["consistent"] else 0.0 for entry in mine)
            if all(map(math.isfinite, (*s12, *s21, *scores))):
                return ScoredRow(row["id"], s12, s21, scores)
        except (KeyError, TypeError):
            pass
        raise OutputError(f"{self.path}: row {one_line(str(row['id']))} lacks a score for each principle of its run")


def variance(numbers: Collection[float]) -> float:
    """Of the population, 0 where there is none. `fsum` rounds once, so the order of the numbers does not matter."""
    if not numbers:
        return 0.0
    mean = math.fsum(numbers) / len(numbers)
    return math.fsum((number - mean) ** 2 for number in numbers) / len(numbers)


def _principle(record: Mapping[str, Any]) -> Principle:
    """Raises KeyError, TypeError or ValueError for what is none."""
    principle = Principle.recorded(record)
    if not all(isinstance(text, str) for text in (principle.name, principle.positive, principle.negative)):
        raise TypeError
    if weight_problem(principle.weight):
        raise ValueError
    return principle
