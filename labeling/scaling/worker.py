"""What runs on a machine of the cluster: a judge, loaded once, that judges shards and writes their answers.

Nothing here knows Ray: a worker is an object whose methods are called from elsewhere.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from preftree.engine.errors import OutputError
from preftree.engine.openmp import wait_briefly
from preftree.labeling.answers.answers import ANSWERED, ANSWERS, Answers
from preftree.labeling.answers.entry import Entry, table_of
from preftree.labeling.answers.host import host_of
from preftree.labeling.answers.writer import AnswerWriter
from preftree.labeling.data.folder import folder_of
from preftree.labeling.judge.protocol import AnyJudge, load_judge
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.candidates import Candidates
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.candidates import SampleOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.pipeline import Labelled
from preftree.labeling.runs.asking import Row, judge_rows
from preftree.labeling.runs.collecting import few_collections
from preftree.labeling.runs.label_mass import LabelMassWatch
from preftree.labeling.runs.manifest import version, versions_with
from preftree.labeling.scaling.shards import Shard

# A part for each shard, and one a minute of a long one: a lost worker costs no more than that.
_SECONDS_BETWEEN_PARTS = 60.0


def method_of(options: LabelOptions | SampleOptions, recorded: Mapping[str, Any]) -> Method:
    """The method of the run. recorded: its record, with the texts of files that only the driver's machine has."""
    return Candidates(options.sampling) if isinstance(options, SampleOptions) else open_method(options, recorded)


@dataclass(frozen=True)
class Setting:
    """What a worker needs to begin.

    Attributes:
        options: of the run; `model` is a path that does not depend on the working directory.
        folder: the run's directory or URL.
        method: the record of the method.
        load: makes a judge of options, `weights=False` one that only describes itself.
        open: makes the method of options and `method`.
    """

    options: LabelOptions | SampleOptions
    folder: str
    method: Mapping[str, Any]
    load: Callable[..., AnyJudge] = load_judge
    open: Callable[..., Method] = method_of


@dataclass
class Outcome:
    """What became of a shard.

    Attributes:
        rows: that were judged.
        rejected: of these.
        tokens: generated.
        rationales: that were written.
    """

    rows: int = 0
    rejected: int = 0
    tokens: int = 0
    rationales: int = 0


class Greeting(NamedTuple):
    """A worker that is there, before it loads anything.

    Attributes:
        node: the name of its machine.
        version: of its preftree.
        sees: whether the driver's file is in the run's directory.
    """

    node: str
    version: str
    sees: bool


class Worker:
    """Made on a machine of the cluster; `greet`, then `load`, then `begin`, then any number of `judge`."""

    def __init__(self, setting: Setting) -> None:
        wait_briefly()
        self._setting = setting
        self._method = setting.open(setting.options, setting.method)
        self._watch = LabelMassWatch()
        self._judge: AnyJudge | None = None
        self._writer: AnswerWriter | None = None
        self._is_stopped = False

    def greet(self, name: str, content: bytes) -> Greeting:
        """name, content: of a file that the driver has put into the run's directory."""
        try:
            sees = folder_of(self._setting.folder).read(name) == content
        except OSError:
            sees = False
        return Greeting(socket.gethostname(), version(), sees)

    def describe(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """What the judge says of itself without weights. before: what it said then."""
        return self._setting.load(self._setting.options, weights=False).describe(before)

    def load(self) -> dict[str, Any]:
        """Loads the model; what the judge says of itself. Raises PreftreeError."""
        _prepare_to_write()
        self._judge = self._setting.load(self._setting.options)
        return self._judge.describe()

    def begin(self, run: str, after: int) -> None:
        """From here on answers are written. Called again, they count more than what was written up to then.

        Args:
            run: that parts are of.
            after: the highest sequence number of a part that is there.
        """
        assert self._judge is not None
        if self._writer is None:
            described = self._judge.describe()
            host = host_of({"scorer": described, "versions": versions_with(described)})
            answers = folder_of(self._setting.folder).child(ANSWERS)
            self._writer = AnswerWriter(answers, run, Answers(), False, host, _SECONDS_BETWEEN_PARTS)
        self._writer.after = after

    def judge(self, shard: Shard) -> Outcome:
        """Judges the rows and writes their answers. Fewer rows than the shard has were judged after `stop`."""
        assert self._judge is not None
        assert self._writer is not None
        rows = self._left(shard.rows, self._writer) if shard.failures else shard.rows
        usage = self._judge.usage
        outcome = Outcome(rows=len(shard.rows) - len(rows))
        tokens, rationales = usage.generated_tokens, usage.rationales

        def done(window: list[Labelled]) -> None:
            outcome.rows += len(window)
            outcome.rejected += sum(labelled.reason is not None for labelled in window)
            if not self._setting.options.allow_low_mass:
                self._watch.add(window)

        with few_collections():
            judge_rows(rows, self._method, self._judge, self._writer, done, stopping=lambda: self._is_stopped)
        outcome.tokens, outcome.rationales = usage.generated_tokens - tokens, usage.rationales - rationales
        return outcome

    def stop(self) -> None:
        """No further window is begun. Called while `judge` runs."""
        self._is_stopped = True

    def _left(self, rows: Sequence[Row], writer: AnswerWriter) -> Sequence[Row]:
        """Rows of a shard that another worker did not finish: those without answers in its parts."""
        import numpy as np

        try:
            answers = Answers.open(writer.folder, writer.run)
        except OutputError:  # files come and go: whatever is judged twice gets the same answers
            return rows
        numbers = np.array([row.number for row in rows], np.int64)
        states, texts = answers.states(numbers), answers.texts(numbers)
        found = zip(rows, states.tolist(), texts.tolist(), strict=True)
        return tuple(row for row, state, text in found if state != ANSWERED or text != (row.text or 0))


def _prepare_to_write() -> None:
    """Imports what the first part needs, pandas among it where that is installed, before a device waits for it."""
    import pyarrow.parquet  # noqa: F401

    table_of([Entry(0, None)])
