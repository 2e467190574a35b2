"""The rows of a labels.parquet, and the samples that they are of. Streams; memory does not grow with the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Rejected, Sample

_BATCH_ROWS = 512


def label_rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """These columns of every row, in file order. Raises OutputError where they cannot be read."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                raise OutputError(f"{path} has no column {missing[0]}; label the input again")
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(columns)):
                yield from batch.to_pylist()
    except FileNotFoundError:
        raise OutputError(f"no such file: {path}; label the input again") from None
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"cannot read {path}: {one_line(str(error))}") from error


def with_samples(
    rows: Iterable[dict[str, Any]], items: Iterable[Sample | Rejected], path: Path
) -> Iterator[tuple[Sample | None, dict[str, Any]]]:
    """Each row with the sample of its id, None for one that was rejected. rows: with id and status.

    Rows come in the order of the input, but not all of it need be there. OutputError for a row that has no sample.
    """
    good = (item for item in items if not isinstance(item, Rejected))
    for row in rows:
        if row["status"] != "ok":
            yield None, row
            continue
        sample = next((item for item in good if item.id == row["id"]), None)
        if sample is None:
            raise OutputError(
                f"{path} does not belong to its input: row {one_line(str(row['id']))} is not there, or not in the same "
                "order; label the input again"
            )
        yield sample, row
