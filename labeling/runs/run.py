"""read -> requests -> score -> aggregate -> write: a file becomes labels, in a directory that outlives the process."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preftree.engine.errors import InputError, OutputError
from preftree.labeling.data.dataset import Dataset, rows_of
from preftree.labeling.data.labels_file import LABELS, RUN, LabelWriter, check_out_file, names_of_input
from preftree.labeling.judge.protocol import AnyJudge, load_judge
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options import LabelOptions
from preftree.labeling.pipeline import check_kinds, label_windows
from preftree.labeling.report.text import Rejections, RunSummary, judge_text
from preftree.labeling.runs.directory import RunDirectory, free_sibling
from preftree.labeling.runs.journal import Journal, entries
from preftree.labeling.runs.manifest import COMPLETE, judge_of, manifest, with_judge
from preftree.labeling.runs.memory import Memory
from preftree.labeling.runs.recall import Recall
from preftree.labeling.runs.stopping import Stopping
from preftree.labeling.terminal import count, one_line
from preftree.labeling.types import Pair, Rejected

if TYPE_CHECKING:
    from preftree.labeling.report.figures import Figures

_LOGGER = logging.getLogger("preftree")
_COLLECT_AFTER = 100_000
_TOTALS = ("prompt_tokens", "unique_tokens", "generated_tokens", "rationales", "cut_rationales")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a run that can be resumed. The message says so."""


@dataclass(frozen=True)
class Job:
    """What is to be labelled, how. rows: the numbers of the rows, from 0."""

    options: LabelOptions
    dataset: Dataset
    method: Method
    rows: range

    @classmethod
    def of(cls, options: LabelOptions, method: Method, dataset: Dataset | None = None) -> Job:
        """Looks at the whole input. Raises InputError for what is cheap to find wrong with it."""
        dataset = dataset or Dataset.open(options.input, options.mapping)
        found = dataset.info
        check_kinds(found, method)
        if options.subset is not None:
            found.check_subset(options.subset)
        return cls(options, dataset, method, rows_of(found.rows, options.limit, options.shard))

    @property
    def noun(self) -> str:
        return "pair" if self.method.takes == (Pair,) else "row"

    def manifest(self) -> dict[str, Any]:
        return manifest(self.options, self.dataset, self.method, self.rows)


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
        scorer = _remembered(job, directory) or _loaded(options, judge_factory)
        record = with_judge(job.manifest(), scorer.describe())
        with nullcontext() if options.profile is None else scorer.traced(Path(options.profile)):
            return label_into(directory, directory.begin(record), job, scorer, record)


def _loaded(options: LabelOptions, judge_factory: Callable[..., AnyJudge] | None) -> AnyJudge:
    judge = (judge_factory or load_judge)(options)
    _LOGGER.info(f"running {judge_text(judge.describe())}")
    return judge


def label_into(
    directory: RunDirectory, journal: Journal, job: Job, scorer: AnyJudge, record: dict[str, Any]
) -> RunSummary:
    """Every row of the job: those that the journal remembers are made again from it, the others are asked about."""
    try:
        with LabelWriter(directory.path, job.dataset.info, job.method.columns) as writer:
            summary = _label_rows(directory, journal, job, scorer, writer)
            try:
                job.dataset.check_unchanged()
            except InputError:
                journal.forget_attempt()
                raise
            writer.publish()
        quality = _figures(job, directory.path)
        directory.finish({**record, "totals": summary.totals(), "quality": quality.figures()})
    except KeyboardInterrupt:
        kept = journal.count()
        went_on = f"{count(kept, 'row')} of {directory.path} are kept; run the same command again to resume"
        raise Interrupted(f"interrupted; {went_on if kept else 'nothing was written'}") from None
    return replace(summary, quality=quality)


def _figures(job: Job, directory: Path) -> Figures:
    """Of the labels as they are written."""
    from preftree.labeling.report.figures import figures_of

    subset = job.options.subset
    names = names_of_input(job.dataset.info, job.method.columns)
    return figures_of(directory / LABELS, None if subset is None else names[subset])


def _remembered(job: Job, directory: RunDirectory) -> AnyJudge | None:
    """In the place of a judge, where the run is complete already and nothing need be asked."""
    before = directory.previous
    if before is None or before["state"] != COMPLETE or job.options.retry_rejects:
        return None
    if before["options"].get("model") != job.options.model or not directory.remembers(job.rows):
        return None
    if job.options.dtype not in ("auto", before["scorer"].get("dtype")):
        return None
    return Memory(judge_of(before))


def _announcement(job: Job, out: Path) -> str:
    options = job.options
    rows = count(len(job.rows), "row")
    part = f" (shard {options.shard})" if options.shard else ""
    place = f" into {one_line(str(out))}" if options.force_new else ""
    return f"{rows}{part} of {one_line(job.dataset.name)}{place}; loading {one_line(options.model)}"


def _label_rows(
    directory: RunDirectory, journal: Journal, job: Job, scorer: AnyJudge, writer: LabelWriter
) -> RunSummary:
    from preftree.labeling.progress import Progress

    options, method = job.options, job.method
    rejections, ok = Rejections(), 0
    recall = Recall(entries(journal.path), options.retry_rejects)
    info = job.dataset.info
    rows = islice(job.dataset.read(job.rows.stop, info.repeated), job.rows.start, None)
    number = job.rows.start
    bar = Progress(len(job.rows), options.quiet, job.noun, done=min(journal.count(), len(job.rows)))
    with _few_collections(), bar as progress, Stopping() as stopping, _kept(journal, scorer):
        for window in label_windows(recall.items(rows, number), method, scorer, progress, lambda: stopping.asked):
            journal.add(number, window)
            number += len(window)
            if journal.is_due():
                journal.commit(scorer.usage)
            writer.add([(labelled.item, labelled.label) for labelled in window])
            for item, label, *_ in window:
                if isinstance(item, Rejected):
                    rejections.add(info.place(item.line), item.reason)
                elif label is not None:
                    ok += 1
            progress.advance(sum(not labelled.recalled for labelled in window))
    if number < job.rows.stop:
        if stopping.asked:
            raise KeyboardInterrupt
        raise InputError(f"{job.dataset.name} has fewer rows than when the run began; label it again")
    if recall.damaged:
        _LOGGER.warning(f"damaged in the journal, and judged again: {count(recall.damaged, 'row')}")
    return _summary(directory, journal.usage(), job, judge_text(scorer.describe()), ok, rejections)


def _summary(
    directory: RunDirectory,
    usage: Mapping[str, float],
    job: Job,
    judge: str,
    ok: int,
    rejections: Rejections,
) -> RunSummary:
    """usage: of all attempts together."""
    return RunSummary(
        labels=directory.path / LABELS,
        run=directory.path / RUN,
        judge=judge,
        noun=job.noun,
        ok=ok,
        quality=None,
        rejections=rejections,
        seconds=usage.get("seconds", 0.0),
        journal_seconds=usage.get("journal_seconds", 0.0),
        **{name: int(usage.get(name, 0)) for name in _TOTALS},
    )


@contextmanager
def _few_collections() -> Iterator[None]:
    """Rows come and go in windows and make no cycles: looking for some after every 700 objects takes a quarter of the
    time that a row takes without its model.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


@contextmanager
def _kept(journal: Journal, scorer: AnyJudge) -> Iterator[None]:
    """Commits what is finished, however the context is left; what it is left by weighs more than a failure to do so."""
    try:
        yield
    except BaseException:
        with suppress(OutputError):
            journal.commit(scorer.usage)
        raise
    journal.commit(scorer.usage)
