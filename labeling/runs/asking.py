"""The first pass of a run: rows without answers are put to the judge, and what it says is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from preftree.engine.errors import InputError, OutputError, UsageError
from preftree.labeling.answers.answers import MISSING, REJECTED, TEXT_COLUMNS, Answers, texts_of
from preftree.labeling.answers.entry import Entry
from preftree.labeling.answers.lines import LineReader
from preftree.labeling.answers.writer import AnswerWriter
from preftree.labeling.data.batches import RowBatch
from preftree.labeling.data.selection import parse_shard, windows_of
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.judge.usage import Usage
from preftree.labeling.methods.base import Method
from preftree.labeling.pipeline import Labelled, label_windows, requests_of
from preftree.labeling.report.text import Rejections
from preftree.labeling.runs.collecting import few_collections
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.label_mass import LabelMassWatch
from preftree.labeling.runs.stopping import Stopping
from preftree.labeling.types import Rejected, Sample

if TYPE_CHECKING:
    from preftree.labeling.progress import Progress


class Row(NamedTuple):
    """A row to judge.

    Attributes:
        number: its place in the input, from 0.
        text: the digest of what is judged, see `Job.digest`.
        item: the row as it was read.
    """

    number: int
    text: int | None
    item: Sample | Rejected


def own_rows(job: Job) -> slice:
    """Places in `job.rows` of what this process judges: all, or neighbours for a worker. UsageError for no rows."""
    worker, total = job.options.worker, len(job.rows)
    if worker is None:
        return slice(0, total)
    index, number = parse_shard(worker)
    mine = slice(total * (index - 1) // number, total * index // number)
    if mine.start == mine.stop:
        raise UsageError(f"--worker {worker} has no rows: there are {total:,} in all; use fewer workers")
    return mine


def count_to_judge(job: Job, answers: Answers) -> int:
    """How many rows of the job this process has to judge."""
    return sum(int(_has_to_be_judged(job, answers, window).sum()) for window in windows_of(job.rows[own_rows(job)]))


def _has_to_be_judged(job: Job, answers: Answers, numbers: Any) -> Any:
    """Which of these rows have to be judged, --retry-rejects considered: a NumPy array of bools."""
    states = answers.states(numbers)
    return (states == MISSING) | (states == REJECTED) if job.options.retry_rejects else states == MISSING


def _batches_to_judge(job: Job, answers: Answers) -> Iterator[tuple[Any, RowBatch, Any]]:
    """All rows of this process with their numbers, and which of them have to be judged."""
    for numbers, rows in job.dataset.batches(job.rows[own_rows(job)]):
        yield numbers, rows, _has_to_be_judged(job, answers, numbers)


def hopeless(job: Job, answers: Answers) -> Rejections | None:
    """Why none of the rows that have to be judged can be. None where one can: it is looked for up to the first."""
    found = Rejections()
    for _, rows, wanted in _batches_to_judge(job, answers):
        for item in rows.only(wanted).items() if wanted.any() else ():
            refused = requests_of(item, job.method)
            if not isinstance(refused, Rejected):
                return None
            found.add(job.dataset.info.place(refused.line), refused.reason)
    return found


def reject(job: Job, writer: AnswerWriter) -> None:
    """Keeps the rejection of every row that has to be judged, where all of them are `hopeless`."""
    left = count_to_judge(job, writer.answers)
    for numbers, rows, wanted in _batches_to_judge(job, writer.answers):
        for number, item in zip(numbers[wanted].tolist(), rows.only(wanted).items(), strict=True):
            found = requests_of(item, job.method)
            if not isinstance(found, Rejected):
                raise InputError(f"{job.dataset.name} changed while it was read; run the same command again")
            writer.add([_entry(number, job.digest(item), Labelled(found))])
            left -= 1
        if writer.is_due():
            writer.commit(Usage())
    if left:
        raise InputError(f"{job.dataset.name} changed while it was read; run the same command again")
    writer.commit(Usage())


def ask(job: Job, writer: AnswerWriter, judge: AnyJudge) -> None:
    """Judges every row that has to be, and rows whose text is not the one that was judged.

    Raises KeyboardInterrupt where Ctrl-C left some of them, and ModelError where the judge does not answer with labels.
    """
    left, watch = count_to_judge(job, writer.answers), LabelMassWatch()

    def done(window: list[Labelled]) -> None:
        nonlocal left
        left -= len(window)
        progress.advance(len(window))
        if not job.options.allow_low_mass:
            watch.add(window)

    rows = rows_to_ask(job, writer.answers)
    with few_collections(), progress_of(job, left) as progress, Stopping() as stopping:
        judge_rows(rows, job.method, judge, writer, done, progress, lambda: stopping.asked)
    if left > 0:
        raise KeyboardInterrupt


def progress_of(job: Job, left: int) -> Progress:
    """left: rows of this process that have to be judged."""
    from preftree.labeling.progress import Progress

    mine = own_rows(job)
    total = mine.stop - mine.start
    writes = "response" if job.noun == "prompt" else "rationale"
    return Progress(total, job.options.quiet, job.noun, done=total - left, writes=writes)


def judge_rows(
    rows: Iterable[Row],
    method: Method,
    judge: AnyJudge,
    writer: AnswerWriter,
    done: Callable[[list[Labelled]], None],
    progress: Progress | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Judges rows and keeps the answers, however it ends. done: is called with each window that is judged."""
    begun: deque[tuple[int, int | None]] = deque()

    def items() -> Iterator[Sample | Rejected]:
        for number, text, item in rows:
            begun.append((number, text))
            yield item

    with _kept(writer, judge):
        for window in label_windows(items(), method, judge, progress, stopping):
            writer.add([_entry(*begun.popleft(), labelled) for labelled in window])
            if writer.is_due():
                writer.commit(judge.usage)
            done(window)


def rows_to_ask(job: Job, answers: Answers) -> Iterator[Row]:
    """The rows of this process to judge: those without answers, and those whose answers are about another text."""
    seen, mine = 0, job.rows[own_rows(job)]
    # Not those of rows before: all of their lines would be read for the first batch.
    reader = LineReader([part for part in answers.parts if part.spans[-1, 1] > mine[0]], TEXT_COLUMNS)
    for numbers, rows, wanted in _batches_to_judge(job, answers):
        try:
            known = texts_of(reader.upto(int(numbers[-1])), numbers)
        except FileNotFoundError as error:
            raise OutputError(f"{error.filename} is gone; run the same command again to resume") from None
        seen += len(numbers)
        for number, item, is_wanted, then in zip(
            numbers.tolist(), rows.items(), wanted.tolist(), known.tolist(), strict=True
        ):
            text = job.digest(item)
            if is_wanted or (text or 0) != then:
                yield Row(number, text, item)
    if seen < len(mine):
        raise InputError(f"{job.dataset.name} has fewer rows than when the run began; label it again")


def _entry(number: int, text: int | None, labelled: Labelled) -> Entry:
    item = labelled.item
    if isinstance(item, Rejected):
        return Entry(number, item.id, item.reason, text=text)
    return Entry(number, item.id, None, labelled.scores, text)


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
