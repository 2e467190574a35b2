"""Scores by principle, as a finished run of method salmon left them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError, OutputError
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.folder import folder_of
from preftree.labeling.data.labels_file import LABELS, RUN, label_rows, local_labels, with_samples
from preftree.labeling.methods.spread import Spread
from preftree.labeling.principles.principle import Principle
from preftree.labeling.runs.recorded import finished_run
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Pair

_COLUMNS = ("id", "status", "principles")


class SalmonLabels:
    """Raises OutputError where there is no finished run, and InputError for one of another method."""

    def __init__(self, directory: str | Path) -> None:
        self._folder = folder_of(directory)
        self.run = finished_run(self._folder)
        self.path = local_labels(self._folder)
        place = self._folder.place(LABELS)
        self.place = place if isinstance(place, str) else str(place.absolute())
        name = self.run["method"].get("name")
        if name != "salmon":
            raise InputError(f"{directory} holds labels of method {name}; instructions are made of --method salmon's")
        try:
            self.principles = tuple(Principle.recorded(entry) for entry in self.run["method"]["principles"])
        except (KeyError, TypeError):
            raise OutputError(f"{self._folder.place(RUN)} does not say which principles were judged") from None

    def variances(self) -> dict[str, float]:
        """Of each principle, over all labelled pairs; see `Spread`."""
        return self._variances(row for row in label_rows(self.path, _COLUMNS) if row["status"] == "ok")

    def variances_of(self, dataset: Dataset, takes: Callable[[Pair], bool]) -> dict[str, float]:
        """The same over the pairs of `dataset` that are taken, whose texts have to be read for it."""
        return self._variances(row for pair, row in self._rows(dataset) if pair is not None and takes(pair))

    def pairs(self, dataset: Dataset, min_score: float | None = None) -> Iterator[tuple[Pair | None, list[float]]]:
        """Each labelled pair of `dataset`, with its score by each principle; None and [] for a row that was rejected.

        A score is the mean of both orders. It is 0 where the orders disagree; with `min_score` where it is nearer to 0
        than that, whether the orders agree or not.
        """
        for pair, row in self._rows(dataset):
            if pair is None:
                yield None, []
            else:
                yield pair, [one["score"] if _counts(one, min_score) else 0.0 for one in self._judged(row)]

    def _rows(self, dataset: Dataset) -> Iterator[tuple[Pair | None, Mapping[str, Any]]]:
        for sample, row in with_samples(label_rows(self.path, _COLUMNS), dataset.read(), self.path):
            assert sample is None or isinstance(sample, Pair)
            yield sample, row

    def _variances(self, rows: Iterator[Mapping[str, Any]]) -> dict[str, float]:
        spread = Spread(principle.name for principle in self.principles)
        for row in rows:
            for judged in self._judged(row):
                spread.add(judged["name"], judged["s12"], judged["s21"])
        return spread.variances()

    def _judged(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What was answered about a row by each principle. OutputError where one is missing."""
        try:
            judged = {entry["name"]: entry for entry in row["principles"]}
            return [judged[principle.name] for principle in self.principles]
        except (KeyError, TypeError):
            raise OutputError(
                f"{self.path}: row {one_line(str(row['id']))} lacks a score for each principle of its run"
            ) from None


def _counts(judged: Mapping[str, Any], min_score: float | None) -> bool:
    return judged["consistent"] if min_score is None else abs(judged["score"]) >= min_score
