"""What a finished run compares, row by row: its labels beside its input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from preftree.engine.errors import OutputError
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.labels_file import label_rows, with_samples
from preftree.labeling.export.comparison import NO_COMPARISON, NO_LABEL, Comparison, Reader, Selection
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Sample


def compared_rows(
    labels: Path, dataset: Dataset, reader: Reader, selection: Selection
) -> Iterator[tuple[Sample, Comparison]]:
    """Those that `selection` takes, each with the row that it is of. OutputError for labels of another method."""
    rows = label_rows(labels, ("id", "status", *reader.columns), reader.optional)
    for sample, row in with_samples(rows, dataset.read(), labels):
        if sample is None:
            selection.leave_out(NO_LABEL)
            continue
        try:
            found = list(reader.comparisons(sample, row))
        except (KeyError, TypeError, IndexError) as error:
            raise OutputError(f"{labels}: row {one_line(sample.id)} lacks what its method's labels have") from error
        if not found:
            selection.leave_out(NO_COMPARISON)
        for one in filter(selection.takes, found):
            yield sample, one
