"""Labels of a run again, from its answers, with other options that answers do not depend on. Loads no model."""

from __future__ import annotations

from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.answers.answers import ANSWERS, Answers
from preftree.labeling.calibration.identity import CALIBRATION
from preftree.labeling.data.folder import Folder, folder_of
from preftree.labeling.options.reading import AggregateOptions
from preftree.labeling.report.text import RunSummary
from preftree.labeling.runs.directory import RunDirectory
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.labels import labels_of_parts
from preftree.labeling.runs.manifest import judge_of, with_judge
from preftree.labeling.runs.recorded import check_format, labelled_input, read_run
from preftree.labeling.terminal import count


def aggregate(options: AggregateOptions) -> RunSummary:
    """Makes the labels of a run whose rows all have answers, in its place or in another directory.

    Raises PreftreeError.
    """
    source = folder_of(options.run)
    record = read_run(source)
    check_format(source, record)
    given = {name: getattr(options, name) for name in ("aggregate", "subset", "calibration")}
    changes = {name: value for name, value in given.items() if value is not None}
    if options.calibration is not None:
        record = {**record, "method": {name: value for name, value in record["method"].items() if name != CALIBRATION}}
        changes["calibration"] = None if options.calibration == "none" else options.calibration
    out = options.out or options.run
    job = Job.again(
        record,
        labelled_input(record, options.input),
        out=out,
        quiet=options.quiet,
        same_hardware=options.same_hardware,
        **changes,
    )
    new_record = with_judge(job.manifest(), judge_of(record)) | {"answers": record["answers"]}
    job.check_calibration(new_record)
    if options.out is None:
        with RunDirectory(source) as directory:
            check_answered(source, directory.answers, job.rows)
            return labels_of_parts(directory, job, new_record, ())
    answers = Answers.open(source.child(ANSWERS), record["answers"])
    check_answered(source, answers, job.rows)
    with RunDirectory(options.out, options.overwrite) as directory:
        directory.check_new()
        return labels_of_parts(directory, job, new_record, answers.parts)


def check_answered(path: Folder, answers: Answers, rows: Any) -> None:
    """OutputError unless all these rows have answers. path: of their run."""
    missing, _, _ = answers.counts(rows)
    if missing:
        named = ""
        if answers.damaged:
            place, problem = answers.damaged[0]
            named = f" ({str(place).rpartition('/')[2]} {problem})"
        raise OutputError(
            f"answers about {count(missing, 'row')} of {path} are damaged or missing{named}; "
            "its `preftree label` command puts that right"
        )
