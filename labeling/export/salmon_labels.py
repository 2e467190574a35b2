"""Scores by principle, as a finished run of method salmon left them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError, OutputError
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.labels_file import LABELS, RUN, label_rows, with_samples
from preftree.labeling.principles.principle import Principle
from preftree.labeling.runs.recorded import finished_run
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Pair

_COLUMNS = ("id", "status", "principles")


class SalmonLabels:
    """Raises OutputError where `directory` holds no finished run, and InputError for one of another method."""

    def __init__(self, directory: Path) -> None:
        self.path, self.run_path = directory / LABELS, directory / RUN
        self.run = finished_run(directory)
        name = self.run["method"].get("name")
        if name != "salmon":
            raise InputError(f"{directory} holds labels of method {name}; instructions are made of --method salmon's")
        try:
            self.principles = tuple(Principle.recorded(entry) for entry in self.run["method"]["principles"])
        except (KeyError, TypeError):
            raise OutputError(f"{self.run_path} does not say which principles were judged") from None

    def variances(self) -> dict[str, float]:
        """Of each principle: that of its scores in single orders, two of every pair, consistent or not.

        So the released code has it. Means of two orders would vary the less the more the orders disagree. Takes 16
        bytes of memory a principle and row.
        """
        scores = {principle.name: array("d") for principle in self.principles}
        for row in label_rows(self.path, _COLUMNS):
            if row["status"] == "ok":
                for judged in self._judged(row):
                    scores[judged["name"]].extend((judged["s12"], judged["s21"]))
        return {name: variance(numbers) for name, numbers in scores.items()}

    def pairs(self, dataset: Dataset) -> Iterator[tuple[Pair | None, list[float]]]:
        """Each labelled pair of `dataset`, with its score by each principle; None and [] for a row that was rejected.

        A score is the mean of both orders, and 0 where the principle is not consistent.
        """
        items = dataset.read()
        for sample, row in with_samples(label_rows(self.path, _COLUMNS), items, self.path):
            if sample is None:
                yield None, []
            else:
                assert isinstance(sample, Pair)
                yield sample, [one["score"] if one["consistent"] else 0.0 for one in self._judged(row)]

    def _judged(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What was answered about a row by each principle. OutputError where one is missing."""
        try:
            judged = {entry["name"]: entry for entry in row["principles"]}
            return [judged[principle.name] for principle in self.principles]
        except (KeyError, TypeError):
            raise OutputError(
                f"{self.path}: row {one_line(str(row['id']))} lacks a score for each principle of its run"
            ) from None


def variance(numbers: array[float]) -> float:
    """Of a population, whatever the order of its numbers: both sums are exact until they are rounded once."""
    if not numbers or min(numbers) == max(numbers):
        return 0.0
    mean = math.fsum(numbers) / len(numbers)
    return math.fsum((number - mean) ** 2 for number in numbers) / len(numbers)
