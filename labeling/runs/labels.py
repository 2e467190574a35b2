"""The second pass of a run: labels.parquet as a function of input, answers and options, without a model.

Rows are labelled in the order of the input, whatever order their answers came in, so its bytes do not depend on it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preftree.engine.errors import OutputError
from preftree.labeling.answers.answers import Answers
from preftree.labeling.answers.host import check_hardware
from preftree.labeling.answers.part import Part
from preftree.labeling.data.folder import Folder
from preftree.labeling.data.label_table import names_of_input
from preftree.labeling.data.labels_file import LABELS, RUN, LabelWriter
from preftree.labeling.methods.registry import imitations_of
from preftree.labeling.pipeline import filled_columns, with_figures
from preftree.labeling.report.findings import findings
from preftree.labeling.report.text import Rejections, RunSummary, judge_text
from preftree.labeling.runs.collecting import few_collections
from preftree.labeling.runs.directory import RunDirectory
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.joining import labelled_batches, labelled_rows
from preftree.labeling.runs.manifest import date, judge_of

if TYPE_CHECKING:
    from preftree.labeling.report.figures import Figures


_LOGGER = logging.getLogger("preftree")
_TOTALS = ("prompt_tokens", "unique_tokens", "generated_tokens", "rationales", "cut_rationales")


def labels_of_parts(directory: RunDirectory, job: Job, record: dict[str, Any], parts: Iterable[Part]) -> RunSummary:
    """Labels from answers of other directories, which are copied, or from those that are there already.

    Whatever is raised, no answers are left that were not there before.
    """
    writer = directory.begin(record)
    try:
        writer.take_over(parts)
        return write_labels(directory, job, record, writer.answers)
    except BaseException:
        with suppress(OutputError):
            writer.forget_attempt()
        raise


def write_labels(directory: RunDirectory, job: Job, record: dict[str, Any], answers: Answers) -> RunSummary:
    """Writes labels.parquet, then the record of the complete run. record: with its judge.

    Raises OutputError where answers of a row are missing, and InputError where the input is not what it was.
    """
    warn_of_hardware(job, answers)
    ok, rejections = labels_file(directory.folder, job, answers)
    quality = _figures(job, directory.folder)
    summary = summary_of(directory.folder.place(LABELS), directory, answers, job, record, ok, rejections, quality)
    directory.finish({**record, **dates_of(answers), "totals": summary.totals(), "quality": quality.figures()})
    return summary


def labels_file(out: Folder | Path, job: Job, answers: Answers) -> tuple[int, Rejections]:
    """Writes labels.parquet into `out`; returns the number of labels, and the rows without.

    Labels that depend on other rows look at those of `job`: of a shard at its own, of an unfinished run at those with
    answers. Raises what `write_labels` does.
    """
    job = replace(job, method=with_figures(job.method, labelled_rows(job, answers)))
    ok, rejections = 0, Rejections()
    info, method = job.dataset.info, job.method
    columns = method.columns, imitations_of(method), filled_columns(method, info)
    with few_collections(), LabelWriter(out, info, *columns) as writer:
        for found in labelled_batches(job, answers, writer.table):
            writer.add_batch(found.batch)
            ok += len(found.batch) - len(found.rejected)
            for item in found.rejected:
                rejections.add(info.place(item.line), item.reason)
        job.dataset.check_unchanged()
        writer.publish()
    return ok, rejections


def _figures(job: Job, folder: Folder) -> Figures:
    """Of the labels as they are written."""
    from preftree.labeling.report.figures import figures_of

    subset = job.options.subset
    names = names_of_input(job.dataset.info, job.method.columns)
    return figures_of(folder.local(LABELS), None if subset is None else names[subset])


def warn_of_hardware(job: Job, answers: Answers) -> None:
    """Where answers were computed on hosts of several kinds. Raises OutputError instead with --same-hardware."""
    if said := check_hardware(answers.attempts(), job.options.same_hardware):
        _LOGGER.warning(said)


def dates_of(answers: Answers) -> dict[str, str]:
    """When the first attempt began and the last one ended, for the record."""
    attempts = answers.attempts()
    return {
        "started": date(min(attempt.started for attempt in attempts)),
        "finished": date(max(attempt.committed for attempt in attempts)),
    }


def summary_of(
    made: Path | str,
    directory: RunDirectory,
    answers: Answers,
    job: Job,
    record: dict[str, Any],
    ok: int,
    rejections: Rejections,
    quality: Figures | None = None,
) -> RunSummary:
    """made: the file that was written. ok: rows in it."""
    usage = answers.usage()
    totals: dict[str, Any] = {name: int(usage.get(name, 0)) for name in _TOTALS}
    return RunSummary(
        labels=made,
        run=directory.folder.place(RUN),
        judge=judge_text(judge_of(record)),
        noun=job.noun,
        ok=ok,
        quality=quality,
        rejections=rejections,
        seconds=usage.get("seconds", 0.0),
        answers_seconds=usage.get("answers_seconds", 0.0),
        odd_golds=job.dataset.info.odd_golds,
        findings=findings(quality.figures(), record) if quality else (),
        **totals,
    )
