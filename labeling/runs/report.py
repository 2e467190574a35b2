"""`preftree report`: the figures of labels as text, as JSON, or as a page with the rows that are worth reading."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.data.atomic import drafts
from preftree.labeling.data.labels_file import LABELS, RUN, check_out_file
from preftree.labeling.options.reading import ReportOptions
from preftree.labeling.report.figures import figures_of
from preftree.labeling.report.findings import finding_lines, findings
from preftree.labeling.report.html.page import page
from preftree.labeling.report.html.survey import Survey
from preftree.labeling.report.text import aligned
from preftree.labeling.result import Result
from preftree.labeling.runs.recorded import samples_again
from preftree.labeling.runs.view import labels_view
from preftree.labeling.terminal import one_line


def report_lines(options: ReportOptions) -> Result:
    """Figures, and what they mean.

    Raises InputError for a file that holds no labels, and OutputError for one that cannot be read.
    """
    with labels_view(options.labels, options.input) as found:
        figures = figures_of(found.labels, options.subset)
    counts = {"labelled": figures.rows, "rejected": figures.rejected}
    counts |= {"rows": found.rows} if found.is_partial else {}
    meant = findings(figures.figures(), found.record)
    lines = [*found.so_far(), ("labels", figures.counted()), *figures.lines(), *finding_lines(meant)]
    return Result([aligned(lines)], counts | figures.figures() | {"findings": [one.record() for one in meant]})


def write_html(options: ReportOptions, out: Path) -> Result:
    """Writes `out`, whole or not at all. Raises PreftreeError."""
    check_out_file(out, options.overwrite)
    with labels_view(options.labels, options.input) as found:
        for read in (found.labels, *(Path(found.folder.place(name)) for name in (LABELS, RUN))):
            if read.resolve() == out.resolve():
                raise OutputError(f"{read} is what is reported on; name another --html")
        title = found.folder.title if found.record else found.labels.name
        figures = figures_of(found.labels, options.subset or _subset_then(found.record)).figures()
        survey = Survey.of(found.labels)
    ids = [str(row.row["id"]) for row in survey.notable.rows()]
    samples, missing = samples_again(found.record, ids, options.input)
    text = page(title, found.record, figures, survey, samples, missing)
    with drafts(out) as [draft]:
        draft.file.write(text.encode("utf-8", "backslashreplace"))
    meant = findings(figures, found.record)
    lines = [*found.so_far(), ("report", one_line(str(out))), *finding_lines(meant)]
    return Result([aligned(lines)], {"report": str(out), "findings": [one.record() for one in meant]})


def _subset_then(record: Mapping[str, Any]) -> str | None:
    """The column of the labels that the run had figures by, if any."""
    found: str | None = record.get("quality", {}).get("subsets", {}).get("column")
    return found
