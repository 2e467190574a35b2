"""`preftree report RUN --html FILE`: the labels of a run as a page, with texts of the rows that are worth reading."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from preftree.engine.errors import OutputError, PreftreeError
from preftree.labeling.data.atomic import drafts
from preftree.labeling.data.folder import file_or_folder
from preftree.labeling.data.labels_file import LABELS, RUN, check_out_file, local_labels
from preftree.labeling.options import ReportOptions
from preftree.labeling.report.figures import figures_of
from preftree.labeling.report.html.page import page
from preftree.labeling.report.html.survey import Survey
from preftree.labeling.report.text import aligned
from preftree.labeling.runs.recorded import finished_run, labelled_input
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Rejected, Sample


def write_html(options: ReportOptions, out: Path) -> list[str]:
    """Writes `out`, whole or not at all, and returns what to tell a person. Raises PreftreeError."""
    folder, name = file_or_folder(options.labels)
    check_out_file(out, options.overwrite)
    record = finished_run(folder, shards=True) if name is None else {}
    path = local_labels(folder, name or LABELS)
    title = name or folder.title
    for read in (path, path.with_name(RUN)):
        if read.resolve() == out.resolve():
            raise OutputError(f"{read} is what is reported on; name another --html")
    figures = figures_of(path, options.subset or _subset_then(record)).figures()
    survey = Survey.of(path)
    samples, missing = _samples(record, [str(found.row["id"]) for found in survey.notable.rows()], options.input)
    text = page(title, record, figures, survey, samples, missing)
    with drafts(out) as [draft]:
        draft.file.write(text.encode("utf-8"))
    return [aligned([("report", one_line(str(out)))])]


def _subset_then(record: Mapping[str, Any]) -> str | None:
    """The column of the labels that the run had figures by, if any."""
    found: str | None = record.get("quality", {}).get("subsets", {}).get("column")
    return found


def _samples(
    record: Mapping[str, Any], wanted: Collection[str], moved_to: str | None
) -> tuple[dict[str, Sample], str | None]:
    """What was labelled, by id; or nothing and why, where the input is not there any more."""
    if not record:
        return {}, "they are not in the labels; name the directory of a run, which knows its input"
    found: dict[str, Sample] = {}
    try:
        for item in labelled_input(record, moved_to).read(record["options"].get("limit")):
            if len(found) == len(wanted):
                break
            if not isinstance(item, Rejected) and item.id in wanted:
                found.setdefault(item.id, item)
    except PreftreeError as error:
        if moved_to:
            raise
        return {}, str(error)
    return found, None
