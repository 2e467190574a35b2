"""The first pass of a run: rows without answers are put to the judge, and what it says is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import compress
from typing import Any

from preftree.engine.errors import InputError, OutputError
from preftree.labeling.answers.answers import MISSING, REJECTED, Answers
from preftree.labeling.answers.entry import Entry
from preftree.labeling.answers.writer import AnswerWriter
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.pipeline import Labelled, label_windows, suited
from preftree.labeling.report.text import Rejections
from preftree.labeling.runs.collecting import few_collections
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.stopping import Stopping
from preftree.labeling.types import Rejected


def to_judge(job: Job, answers: Answers) -> Any:
    """A NumPy array of bools: which rows of the job have to be judged, --retry-rejects considered."""
    states = answers.states(job.rows)
    return (states == MISSING) | (states == REJECTED) if job.options.retry_rejects else states == MISSING


def hopeless(job: Job, answers: Answers) -> Rejections | None:
    """Why none of the rows that have to be judged can be. None where one can: it is looked for up to the first."""
    found = Rejections()
    for item in compress(job.items(), to_judge(job, answers).tobytes()):
        item = suited(item, job.method)
        if not isinstance(item, Rejected):
            return None
        found.add(job.dataset.info.place(item.line), item.reason)
    return found


def reject(job: Job, writer: AnswerWriter) -> None:
    """Keeps the rejection of every row that has to be judged, where all of them are `hopeless`."""
    from preftree.labeling.judge.judge import Usage

    wanted = to_judge(job, writer.answers)
    for number, item in zip(_numbers(job, wanted).tolist(), compress(job.items(), wanted.tobytes()), strict=True):
        writer.add([_entry(number, Labelled(suited(item, job.method)))])
        if writer.is_due():
            writer.commit(Usage())
    writer.commit(Usage())


def ask(job: Job, writer: AnswerWriter, judge: AnyJudge) -> None:
    """Judges every row that has to be. Raises KeyboardInterrupt where Ctrl-C left some of them."""
    from preftree.labeling.progress import Progress

    wanted = to_judge(job, writer.answers)
    numbers = _numbers(job, wanted)
    done = 0
    items = compress(job.items(), wanted.tobytes())
    bar = Progress(len(job.rows), job.options.quiet, job.noun, done=len(job.rows) - len(numbers))
    with few_collections(), bar as progress, Stopping() as stopping, _kept(writer, judge):
        for window in label_windows(items, job.method, judge, progress, lambda: stopping.asked):
            places = numbers[done : done + len(window)].tolist()
            writer.add([_entry(number, labelled) for number, labelled in zip(places, window, strict=True)])
            done += len(window)
            if writer.is_due():
                writer.commit(judge.usage)
            progress.advance(len(window))
    if done < len(numbers):
        if stopping.asked:
            raise KeyboardInterrupt
        raise InputError(f"{job.dataset.name} has fewer rows than when the run began; label it again")


def _numbers(job: Job, wanted: Any) -> Any:
    """Of the wanted rows, a NumPy array."""
    return job.rows.start + wanted.nonzero()[0]


def _entry(number: int, labelled: Labelled) -> Entry:
    item = labelled.item
    if isinstance(item, Rejected):
        return Entry(number, item.id, item.reason)
    return Entry(number, item.id, None, labelled.scores)


@contextmanager
def _kept(writer: AnswerWriter, judge: AnyJudge) -> Iterator[None]:
    """Commits what is finished, however the context is left; what it is left by weighs more than a failure to do so."""
    try:
        yield
    except BaseException:
        with suppress(OutputError):
            writer.commit(judge.usage)
        raise
    writer.commit(judge.usage)
