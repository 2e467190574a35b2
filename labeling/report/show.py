"""What `preftree report` prints: the figures of labels as text or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from preftree.engine.errors import OutputError
from preftree.labeling.data.labels_file import LABELS
from preftree.labeling.options import ReportOptions
from preftree.labeling.report.figures import figures_of
from preftree.labeling.report.text import aligned


def report_lines(options: ReportOptions) -> Iterator[str]:
    """Raises InputError for a file that holds no labels, and OutputError for one that cannot be read."""
    figures = figures_of(labels_path(options.labels), options.subset)
    if options.json:
        counts = {"labelled": figures.rows, "rejected": figures.rejected}
        yield json.dumps(counts | figures.figures(), indent=2, ensure_ascii=False, allow_nan=False)
    else:
        yield aligned([("labels", figures.counted()), *figures.lines()])


def labels_path(named: str) -> Path:
    """The labels of a run directory, or the file itself."""
    path = Path(named)
    if not path.is_dir():
        return path
    if not (path / LABELS).exists():
        raise OutputError(f"{path} has no {LABELS} yet; `preftree label` writes it when it is done")
    return path / LABELS
