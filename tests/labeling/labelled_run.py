"""A finished run with labels of a test's choice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from preftree.labeling.data.labels_file import LabelWriter
from preftree.labeling.methods.set_labels import SetsLabel, set_columns
from preftree.labeling.runs.manifest import write_record
from preftree.labeling.types import Label
from tests.labeling.fakes import write_rows
from tests.labeling.opened import info_of, read, sha256_of


def labelled_run(
    directory: Path, method: str, rows: Sequence[dict[str, Any]], labels: Sequence[Label | None], **record: Any
) -> Path:
    """The run's directory, with its input beside it. None is a rejected row. record: what the method says of itself."""
    source = write_rows(directory.with_name(f"{directory.name}.in.jsonl"), rows)
    found = info_of(source)
    first: Any = next(label for label in labels if label is not None)
    columns = set_columns(first.fields) if isinstance(first, SetsLabel) else first.COLUMNS
    directory.mkdir(parents=True, exist_ok=True)
    with LabelWriter(directory, found, columns) as writer:
        writer.add(list(zip(read(source), labels, strict=True)))
        writer.publish()
    run = {"input": {"path": str(source), "sha256": sha256_of(source)}, "options": {"limit": None}, "scorer": {}}
    write_record(directory, {"method": {"name": method, **record}, "state": "complete", **run})
    return directory
