"""The labels of a run for reading: those of a finished one, or what follows from the answers so far."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.answers.answers import ANSWERS, LOOKS, MISSING, look
from preftree.labeling.data.folder import MISSING as NOT_THERE
from preftree.labeling.data.folder import Folder, file_or_folder, folder_of
from preftree.labeling.data.labels_file import LABELS, RUN, local_labels
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.labels import labels_file
from preftree.labeling.runs.manifest import COMPLETE
from preftree.labeling.runs.recorded import check_format, labelled_input, read_run
from preftree.labeling.terminal import count


@dataclass(frozen=True)
class RunView:
    """Labels to read.

    Attributes:
        folder: of the run.
        record: the run.json; empty for labels without one.
        labels: a labels.parquet, itself or a copy, which is gone once it has been looked at.
        rows: of the run.
        done: of them, in `labels`.
    """

    folder: Folder
    record: dict[str, Any]
    labels: Path
    rows: int
    done: int

    @property
    def is_partial(self) -> bool:
        return self.done < self.rows

    def so_far(self) -> list[tuple[str, str]]:
        """A line that says how much there is, where it is not all."""
        return [("so far", f"{self.done:,} of {count(self.rows, 'row')}")] if self.is_partial else []


@contextmanager
def view(named: str | Path | Folder, moved_to: str | None = None, most: int | None = None) -> Iterator[RunView]:
    """Look at a run, whether another process works on it or not. Changes nothing.

    Args:
        named: directory or URL of the run.
        moved_to: where its input is now; needed where the run is not finished.
        most: rows to look at where the run is not finished.

    Raises:
        OutputError: there is no run, or nothing has been judged so far.
        InputError: the input of a run that is not finished is not there any more.
    """
    folder = folder_of(named)
    record = read_run(folder)
    if record.get("state") == COMPLETE:
        rows = record.get("totals", {}).get("rows", 0)
        yield RunView(folder, record, local_labels(folder), rows, rows)
        return
    check_format(folder, record)
    job = Job.again(record, labelled_input(record, moved_to))
    with TemporaryDirectory(prefix="preftree-") as temporary:
        done = _labels_so_far(folder, record, job, most, Path(temporary))
        yield RunView(folder, record, Path(temporary) / LABELS, len(job.rows), done)


@contextmanager
def labels_view(named: str, moved_to: str | None = None) -> Iterator[RunView]:
    """`view`, or a file of labels from anywhere, which has no record."""
    folder, name = file_or_folder(named)
    if name is None and not _is_run(folder):
        name = LABELS
    if name is not None:
        yield RunView(folder, {}, local_labels(folder, name), 0, 0)
        return
    with view(folder, moved_to) as found:
        yield found


def _is_run(folder: Folder) -> bool:
    """Labels alone are no run."""
    try:
        return folder.kind(RUN) != NOT_THERE or folder.kind(LABELS) == NOT_THERE
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror or error}") from error


def _labels_so_far(folder: Folder, record: dict[str, Any], job: Job, most: int | None, out: Path) -> int:
    """Writes them, and returns the number of rows. A process that works on the run may join parts at any time."""
    for _ in range(LOOKS):
        with suppress(FileNotFoundError):
            answers, states = look(folder.child(ANSWERS), record["answers"], job.rows)
            rows = job.rows[states != MISSING][:most]
            if not len(rows):
                raise OutputError(f"{folder} has no answers yet; `preftree status` says how far it is")
            labels_file(out, replace(job, rows=rows), answers)
            return len(rows)
    raise OutputError(f"cannot read {folder.child(ANSWERS)}: its files come and go; try again")
