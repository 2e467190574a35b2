"""What `preftree report` prints: the figures of labels as text or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

from preftree.engine.errors import OutputError
from preftree.labeling.data.folder import MISSING, Folder, file_or_folder
from preftree.labeling.data.labels_file import LABELS, local_labels
from preftree.labeling.options import ReportOptions
from preftree.labeling.report.figures import figures_of
from preftree.labeling.report.text import aligned


def report_lines(options: ReportOptions) -> Iterator[str]:
    """Raises InputError for a file that holds no labels, and OutputError for one that cannot be read."""
    folder, name = labels_place(options.labels)
    figures = figures_of(local_labels(folder, name), options.subset)
    if options.json:
        counts = {"labelled": figures.rows, "rejected": figures.rejected}
        yield json.dumps(counts | figures.figures(), indent=2, ensure_ascii=False, allow_nan=False)
    else:
        yield aligned([("labels", figures.counted()), *figures.lines()])


def labels_place(named: str) -> tuple[Folder, str]:
    """Folder and name of the labels of a run, or of a file itself. Raises PreftreeError."""
    folder, name = file_or_folder(named)
    if name is not None:
        return folder, name
    try:
        is_there = folder.kind(LABELS) != MISSING
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror or error}") from error
    if not is_there:
        raise OutputError(f"{folder} has no {LABELS} yet; `preftree label` writes it when it is done")
    return folder, LABELS
