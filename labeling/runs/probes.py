"""`preftree probe`: a run of method probe, and a file with a row for each probe of each pair."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from preftree.labeling.answers.answers import Answers
from preftree.labeling.data.folder import Folder
from preftree.labeling.data.label_table import arrow_type
from preftree.labeling.data.labels_file import LABELS, guarded, label_rows
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.methods.probe_labels import ProbeOutcome
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.report.text import RunSummary
from preftree.labeling.runs.directory import RunDirectory
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.labels import write_labels
from preftree.labeling.runs.run import run_worker

_LOGGER = logging.getLogger("preftree")

PROBES = "probes.parquet"
COLUMNS = {"id": "string", **ProbeOutcome.FIELDS, "shift": "double", "flipped": "bool"}
_ROWS = 4096


def run_probe(options: LabelOptions, judge_factory: Callable[..., AnyJudge] | None = None) -> RunSummary | None:
    """Probe a judge, or resume the run that does. None where the files are left to another worker.

    Raises PreftreeError and `preftree.labeling.runs.run.Interrupted`.
    """
    return run_worker(options, judge_factory, write=_write)


def _write(directory: RunDirectory, job: Job, record: dict[str, Any], answers: Answers) -> RunSummary:
    summary = write_labels(directory, job, record, answers)
    write_outcomes(directory.folder)
    _LOGGER.info(f"a row for each probe of each pair: {directory.folder.place(PROBES)}")
    return summary


def write_outcomes(folder: Folder) -> None:
    """Writes probes.parquet from the labels beside it, whole or not at all. Raises OutputError."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, arrow_type(spec)) for name, spec in COLUMNS.items()])
    rows = outcome_rows(folder.local(LABELS))
    with guarded(folder):
        draft = folder.draft(PROBES)
        try:
            with parquet.ParquetWriter(draft.file, schema) as writer:
                while group := list(islice(rows, _ROWS)):
                    writer.write_table(pa.Table.from_pylist(group, schema=schema))
            draft.seal()
            draft.publish()
        finally:
            draft.discard()
        folder.sync()


def outcome_rows(labels: Path) -> Iterator[dict[str, Any]]:
    """Of each pair with a label, a row for each probe; shift: how far its probability moved."""
    for row in label_rows(labels, ("id", "probes")):
        for one in row["probes"] or ():
            before, after = one["p_before"], one["p_after"]
            flipped = (before - 0.5) * (after - 0.5) < 0
            yield {"id": row["id"], **one, "shift": after - before, "flipped": flipped}
