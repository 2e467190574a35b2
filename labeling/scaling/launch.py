"""`preftree label --ray` and its like: the run of one machine, whose rows are judged by a crew of workers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from preftree.labeling.answers.entry import Entry
from preftree.labeling.answers.writer import AnswerWriter
from preftree.labeling.data.folder import LocalFolder, folder_of
from preftree.labeling.judge.protocol import AnyJudge, load_judge
from preftree.labeling.judge.usage import Usage
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.candidates import SampleOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.report.text import RunSummary
from preftree.labeling.runs.asking import count_to_judge, progress_of, rows_to_ask
from preftree.labeling.runs.candidates import run_sample
from preftree.labeling.runs.collecting import few_collections
from preftree.labeling.runs.directory import free_sibling
from preftree.labeling.runs.job import Job
from preftree.labeling.runs.run import run_worker
from preftree.labeling.runs.stopping import Stopping
from preftree.labeling.scaling.cluster import connected
from preftree.labeling.scaling.crew import Crew
from preftree.labeling.scaling.shards import Shard, shards_of
from preftree.labeling.scaling.worker import Outcome, Setting, method_of

Load = Callable[..., AnyJudge]
Open = Callable[..., Method]


def label_on_ray(options: LabelOptions, load: Load = load_judge, open_: Open = open_method) -> RunSummary:
    """Label rows on a Ray cluster, or resume the run that is there. Raises PreftreeError and `Interrupted`.

    load, open_: make the judge and the method, on the workers, too.
    """
    if options.force_new:
        options = replace(options, out=free_sibling(options.out), force_new=False)
    with _driver(options, load, open_) as driver:
        summary = run_worker(options, driver.judge, driver.method, asking=driver.ask)
        assert summary is not None, "only workers leave labels to others"
        return replace(summary, events=driver.events())


def sample_on_ray(options: SampleOptions, load: Load = load_judge) -> RunSummary:
    """Draw responses on a Ray cluster. Raises PreftreeError and `Interrupted`."""
    with _driver(options, load, method_of) as driver:
        return replace(run_sample(options, driver.judge, driver.ask), events=driver.events())


@contextmanager
def _driver(options: LabelOptions | SampleOptions, load: Load, open_: Open) -> Iterator[_Driver]:
    driver = _Driver(options, load, open_)
    try:
        yield driver
    finally:
        driver.close()


class _Driver:
    """What a run has instead of a judge and of `ask`. The cluster is not looked for before a judge is needed."""

    def __init__(self, options: LabelOptions | SampleOptions, load: Load, open_: Open) -> None:
        self._options, self._load, self._open = options, load, open_
        self._record: dict[str, Any] = {}
        self._before: dict[str, Any] | None = None
        self._crew: Crew | None = None
        self._stack = ExitStack()

    def method(self, options: LabelOptions) -> Method:
        """The method, whose record goes to the workers."""
        made = self._open(options)
        self._record = json.loads(json.dumps(made.record()))
        return made

    def judge(self, options: Any, weights: bool = True) -> Any:
        """Stands for the judges of all workers, which load it if `weights`. A failure leaves nothing."""
        try:
            if self._crew is None:
                cluster = self._stack.enter_context(connected(self._options))
                self._crew = Crew(cluster, self._setting(options), self._options.same_hardware)
                self._stack.callback(self._crew.close)
                self._crew.gather()
            if weights:
                self._crew.load()
        except BaseException:
            self.close()
            raise
        return self

    def describe(self, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """See `Judge.describe`. A run that is resumed stays one of the hardware that it began on."""
        assert self._crew is not None
        if before is not None:
            self._before = self._crew.describe(before)
        return self._before or self._crew.described

    def ask(self, job: Job, writer: AnswerWriter, judge: Any) -> None:
        """`preftree.labeling.runs.asking.ask`, by the workers. Memory does not grow with the rows that are read."""
        assert self._crew is not None
        left = count_to_judge(job, writer.answers)
        rows = rows_to_ask(job, writer.answers)
        shards = shards_of(rows, left, self._crew.size)
        self._crew.begin(writer.run, writer.last)

        def done(outcome: Outcome) -> None:
            nonlocal left
            left -= outcome.rows
            progress.advance(outcome.rows)
            if outcome.rationales:
                progress.written(outcome.tokens, outcome.rationales)

        def reject(shard: Shard, reason: str) -> None:
            nonlocal left
            writer.add(Entry(row.number, row.item.id, reason, text=row.text) for row in shard.rows)
            left -= len(shard.rows)
            progress.advance(len(shard.rows))

        try:
            with few_collections(), progress_of(job, left) as progress, Stopping() as stopping:
                self._crew.judge(shards, done, reject, lambda: stopping.asked)
        finally:
            writer.commit(Usage())
            writer.take_in()
        if left > 0:
            raise KeyboardInterrupt

    def events(self) -> tuple[tuple[str, str], ...]:
        """What happened, for the summary."""
        return () if self._crew is None else tuple(self._crew.events.lines())

    def close(self) -> None:
        self._stack.close()

    def _setting(self, options: Any) -> Setting:
        """Paths are whole: workers have other working directories."""
        model, folder = Path(options.model), folder_of(options.directory)
        own = replace(options, model=str(model.resolve()) if model.exists() else options.model, ray=None, workers=None)
        named = str(folder.path.resolve()) if isinstance(folder, LocalFolder) else options.directory
        return Setting(own, named, self._record, self._load, method_of if self._open is open_method else self._open)
