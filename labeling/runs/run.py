"""A file becomes labels: the rows are judged, and labels are made of the answers. The run outlives the process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.answers.writer import AnswerWriter
from preftree.labeling.data.labels_file import check_out_file
from preftree.labeling.judge.protocol import AnyJudge, load_judge
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options import LabelOptions
from preftree.labeling.report.text import RunSummary, judge_text
from preftree.labeling.runs.asking import ask, to_judge
from preftree.labeling.runs.directory import RunDirectory, free_sibling
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.labels import StaleAnswers, write_labels
from preftree.labeling.runs.manifest import judge_of, with_judge
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
    out = free_sibling(Path(options.out)) if options.force_new else Path(options.out)
    with RunDirectory(out, options.overwrite) as directory:
        if options.profile is not None:
            check_out_file(Path(options.profile), options.overwrite)
        job = Job.of(options, (method_factory or open_method)(options))
        directory.check(job.manifest())
        _LOGGER.info(_announcement(job, out))
        judge = None
        before = _answered(job, directory)
        described = judge_of(before) if before else (judge := _loaded(options, judge_factory)).describe()
        record = with_judge(job.manifest(), described)
        writer = directory.begin(record)
        with _resumable(out, writer, job):
            if judge is not None:
                with nullcontext() if options.profile is None else judge.traced(Path(options.profile)):
                    ask(job, writer, judge)
            try:
                return write_labels(directory, job, record, writer.answers)
            except StaleAnswers:
                ask(job, writer, judge or _loaded(options, judge_factory))
                return write_labels(directory, job, record, writer.answers)


def _answered(job: Job, directory: RunDirectory) -> dict[str, Any] | None:
    """The record of the run that is there, if nothing need be judged any more, and so no model be loaded."""
    before = directory.previous
    if before is None or job.options.retry_rejects or before["options"].get("model") != job.options.model:
        return None
    if job.options.dtype not in ("auto", before["scorer"].get("dtype")):
        return None
    return None if to_judge(job, directory.answers).any() else before


def _loaded(options: LabelOptions, judge_factory: Callable[..., AnyJudge] | None) -> AnyJudge:
    judge = (judge_factory or load_judge)(options)
    _LOGGER.info(f"running {judge_text(judge.describe())}")
    return judge


def _announcement(job: Job, out: Path) -> str:
    options = job.options
    rows = count(len(job.rows), "row")
    part = f" (shard {options.shard})" if options.shard else ""
    place = f" into {one_line(str(out))}" if options.force_new else ""
    return f"{rows}{part} of {one_line(job.dataset.name)}{place}; loading {one_line(options.model)}"


@contextmanager
def _resumable(out: Path, writer: AnswerWriter, job: Job) -> Iterator[None]:
    """Answers about an input that changed meanwhile are forgotten; an interrupt says what is kept."""
    try:
        yield
    except InputError:
        writer.forget_attempt()
        raise
    except KeyboardInterrupt:
        kept = int(writer.answers.states(job.rows).astype(bool).sum())
        went_on = f"{count(kept, 'row')} of {out} are kept; run the same command again to resume"
        raise Interrupted(f"interrupted; {went_on if kept else 'nothing was written'}") from None
