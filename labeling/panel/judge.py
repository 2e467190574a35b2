"""A judge of a panel: a finished run with probabilities of pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from preftree.engine.errors import OutputError, UsageError
from preftree.labeling.data.columns import UNCALIBRATED
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.folder import folder_of
from preftree.labeling.data.labels_file import label_rows, local_labels
from preftree.labeling.data.selection import rows_of, selection_of
from preftree.labeling.runs.recorded import finished_run, labelled_input
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Rejected, Sample


@dataclass(frozen=True)
class Judge:
    """Attributes:
    name: the directory's, which no other judge of the panel has.
    place: its directory or URL.
    record: its run.json.
    labels: its labels.parquet.
    column: of the labels, with the probability that A is better.
    """

    name: str
    place: str
    record: dict[str, Any]
    labels: Path
    column: str

    @classmethod
    def of(cls, named: str, is_raw: bool) -> Judge:
        """A judge by its run.

        Args:
            named: directory or URL of the run.
            is_raw: whether what the judge said itself is wanted where the run has been calibrated.

        Raises:
            OutputError: the run is not finished, or its labels have no probability of pairs.
        """
        folder = folder_of(named)
        record = finished_run(folder)
        labels = local_labels(folder)
        columns = _columns(labels)
        if "p_a" not in columns:
            method = one_line(str(record["method"].get("name")))
            raise OutputError(
                f"{folder} has no column p_a, being of method {method}; a panel is made of runs of pairs by methods "
                "rlaif, salmon, reward or panel"
            )
        column = UNCALIBRATED if is_raw and UNCALIBRATED in columns else "p_a"
        return cls(folder.title, str(folder), record, labels, column)

    def rows(self) -> Iterator[dict[str, Any]]:
        """`id`, `status`, `reason`, `prompt_tokens` and `p_a` of every row, in the order of the input."""
        for row in label_rows(self.labels, ("id", "status", "reason", "prompt_tokens", self.column)):
            yield {**row, "p_a": row[self.column]}

    def input(self, moved_to: str | None) -> Dataset:
        """What was labelled. Raises PreftreeError where it is not there any more."""
        return labelled_input(self.record, moved_to)

    def items(self, dataset: Dataset) -> Iterator[Sample | Rejected]:
        """The rows of the run. dataset: its input."""
        return dataset.pick(rows_of(dataset.info.rows, **selection_of(self.record["options"])))

    def is_at(self, named: str) -> bool:
        """Whether this is its directory or URL."""
        return Path(self.place).resolve() == Path(str(folder_of(named))).resolve()

    def reads_like(self, other: Judge) -> bool:
        """Whether the same bytes were read in the same way, so that one id means one text."""
        one, two = (
            (judge.record["input"]["sha256"], list(judge.record["options"].get("mapping", ())))
            for judge in (self, other)
        )
        return one == two


def judges_of(runs: Sequence[str], is_raw: bool) -> list[Judge]:
    """Two or more, with different names. Raises OutputError, and UsageError for fewer and for one that is named twice.

    is_raw: see `Judge.of`.
    """
    if len(runs) < 2:
        raise UsageError(f"{one_line(runs[0])} is one run, and a panel is made of two or more; name another run")
    found = [Judge.of(named, is_raw) for named in runs]
    pairs = combinations(found, 2)
    if repeated := next((other for one, other in pairs if one.is_at(other.place)), None):
        raise UsageError(f"{repeated.place} is named twice; a judge has one vote")
    names = [judge.name for judge in found]
    return [replace(one, name=one.place) if names.count(one.name) > 1 else one for one in found]


def _columns(labels: Path) -> list[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        names: list[str] = parquet.read_schema(labels).names
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"cannot read {labels}: {one_line(str(error))}") from error
    return names
