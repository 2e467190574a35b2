"""A file becomes labels: the rows are judged, and labels are made of the answers. The run outlives the process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.answers.answers import Answers
from preftree.labeling.answers.writer import AnswerWriter
from preftree.labeling.data.labels_file import check_out_file
from preftree.labeling.judge.protocol import AnyJudge, load_judge
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.candidates import SampleOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.report.text import RunSummary, judge_text
from preftree.labeling.runs.asking import ask, hopeless, own_rows, reject
from preftree.labeling.runs.directory import RunDirectory, free_sibling
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.joining import StaleAnswers
from preftree.labeling.runs.labels import write_labels
from preftree.labeling.runs.manifest import with_judge
from preftree.labeling.runs.pinning import pinned
from preftree.labeling.runs.workers import answers_of_all
from preftree.labeling.terminal import count, one_line

_LOGGER = logging.getLogger("preftree")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a run that can be resumed. The message says so."""


def run_label(
    options: LabelOptions,
    judge_factory: Callable[..., AnyJudge] | None = None,
    method_factory: Callable[..., Method] | None = None,
) -> RunSummary:
    """Label a file into a directory, or resume the run that is there. Raises PreftreeError and `Interrupted`.

    Everything that is cheap to find wrong is looked at before the model is loaded, and nothing is left of a run that
    did not come so far.
    """
    summary = run_worker(options, judge_factory, method_factory)
    assert summary is not None, "only workers leave labels to others"
    return summary


def run_worker(
    options: LabelOptions | SampleOptions,
    judge_factory: Callable[..., AnyJudge] | None = None,
    method_factory: Callable[..., Method] | None = None,
    write: Callable[[RunDirectory, Job, dict[str, Any], Answers], RunSummary] = write_labels,
    asking: Callable[[Job, AnswerWriter, Any], None] = ask,
) -> RunSummary | None:
    """`run_label`, as one of several processes. None where labels are left to another, see `answers_of_all`.

    write: what is made of the answers. asking: has what `judge_factory` made judge the rows.
    """
    out = free_sibling(options.directory) if options.force_new else options.directory
    with RunDirectory(out, options.overwrite, options.worker) as directory:
        if options.profile is not None:
            check_out_file(Path(options.profile), options.overwrite)
        options = pinned(options, directory.previous)
        make: Callable[..., Method] = method_factory or open_method
        job = Job.of(options, make(options))
        directory.check(job.manifest())
        needs_model = _needs_model(job, directory)
        _LOGGER.info(f"{one_line(job.dataset.name)}: {one_line(job.dataset.info.about)}")
        _LOGGER.info(_announcement(job, out))
        described = _compared(job, directory, judge_factory)
        judge = None if described and not needs_model else _loaded(options, judge_factory)
        record = with_judge(job.manifest(), judge.describe() if judge else described)
        job.check_calibration(record)
        writer = directory.begin(record)
        with _resumable(out, writer, job):
            if judge is None:
                reject(job, writer)
            else:
                with nullcontext() if options.profile is None else judge.traced(Path(options.profile)):
                    asking(job, writer, judge)

            def written() -> RunSummary | None:
                is_alone = options.worker is None
                answers = writer.answers if is_alone else answers_of_all(directory, job, record)
                return None if answers is None else write(directory, job, record, answers)

            try:
                return written()
            except StaleAnswers:
                asking(job, writer, judge or _loaded(options, judge_factory))
                return written()


def _needs_model(job: Job, directory: RunDirectory) -> bool:
    """Whether there is a row left to judge that is not rejected without a model.

    Raises InputError where all rows of the run are. A shard may be without a label: others have some.
    """
    left = hopeless(job, directory.answers)
    if left is not None and left.count == len(job.rows) and job.options.shard is None:
        place, reason = left.first[0]
        raise InputError(
            f"no row of {job.dataset.name} can be labelled: {count(left.count, 'row')} rejected, {left.by_kind()}; "
            f"the first: {one_line(place)}: {one_line(reason)}"
        )
    return left is None


def _compared(job: Job, directory: RunDirectory, judge_factory: Callable[..., AnyJudge] | None) -> dict[str, Any]:
    """What the judge says of itself without weights, which the run that is there agrees to; {} for a new run.

    Raises OutputError where it is another judge: another model, type, prompt rendering or processor, for example.
    """
    if directory.previous is None:
        return {}
    described = (judge_factory or load_judge)(job.options, weights=False).describe(directory.previous["scorer"])
    directory.check(with_judge(job.manifest(), described))
    return described


def _loaded(options: LabelOptions | SampleOptions, judge_factory: Callable[..., AnyJudge] | None) -> AnyJudge:
    judge = (judge_factory or load_judge)(options)
    _LOGGER.info(f"running {judge_text(judge.describe())}")
    return judge


def _announcement(job: Job, out: str) -> str:
    options = job.options
    mine = own_rows(job)
    rows = count(mine.stop - mine.start, "row")
    part = f" (shard {options.shard})" if options.shard else f" (worker {options.worker})" if options.worker else ""
    place = f" into {one_line(out)}" if options.force_new else ""
    return f"{rows}{part} of {one_line(job.dataset.name)}{place}; loading {one_line(options.model)}"


@contextmanager
def _resumable(out: str, writer: AnswerWriter, job: Job) -> Iterator[None]:
    """Answers about an input that changed meanwhile are forgotten; an interrupt says what is kept."""
    try:
        yield
    except InputError:
        writer.forget_attempt()
        raise
    except KeyboardInterrupt:
        missing, _, _ = writer.answers.counts(job.rows)
        kept = len(job.rows) - missing
        went_on = f"{count(kept, 'row')} of {out} are kept; run the same command again to resume"
        raise Interrupted(f"interrupted; {went_on if kept else 'nothing was written'}") from None
