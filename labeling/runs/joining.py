"""Input and answers joined by row number, and what labels follow: row by row, or for a whole batch at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import InputError, OutputError
from preftree.labeling.answers.answers import Answers
from preftree.labeling.answers.arrays import answer_arrays
from preftree.labeling.answers.digest import digests_of, joined_texts
from preftree.labeling.answers.entry import entries_of
from preftree.labeling.answers.lines import LineReader
from preftree.labeling.data.batches import RowBatch
from preftree.labeling.data.label_table import LabelTable
from preftree.labeling.data.row import rejected
from preftree.labeling.methods.base import Columnar
from preftree.labeling.methods.registry import columns_of, imitations_of
from preftree.labeling.pipeline import Labelled, aggregated
from preftree.labeling.runs.job import Job
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Rejected

_TEXTS = 3  # of a sample that are hashed, besides its responses: id, role, prompt


class StaleAnswers(OutputError):
    """Answers about a text that the input does not have: it was changed while it was judged, and changed back."""


@dataclass(frozen=True)
class LabelledBatch:
    """Rows with their labels.

    Attributes:
        batch: as `LabelTable` makes it.
        rejected: the rows without a label.
    """

    batch: Any
    rejected: list[Rejected]


def labelled_rows(job: Job, answers: Answers) -> Iterator[Labelled]:
    """Every row with its label. Raises `StaleAnswers` among others."""
    for numbers, rows, lines in _joined(job, answers):
        yield from _row_by_row(job, numbers, rows, lines)


def labelled_batches(job: Job, answers: Answers, table: LabelTable) -> Iterator[LabelledBatch]:
    """The same as batches of labels.parquet: in columns where nothing is odd with rows and answers, row by row else."""
    in_columns = _InColumns(job, table)
    for numbers, rows, lines in _joined(job, answers):
        where, batch = in_columns.batch(numbers, rows, lines)
        if where.all():
            yield LabelledBatch(batch, [])
            continue
        found = list(_row_by_row(job, numbers[~where], rows.only(~where), lines))
        others = table.batch([(labelled.item, labelled.label) for labelled in found])
        refused = [item for item, _, _ in found if isinstance(item, Rejected)]
        yield LabelledBatch(_merged(batch, others, where), refused)


def _joined(job: Job, answers: Answers) -> Iterator[tuple[Any, RowBatch, Any]]:
    """Batches of rows with their numbers and the lines of their answers, and maybe lines of rows between them."""
    reader, done = LineReader(answers.parts), 0
    for numbers, rows in job.batches():
        yield numbers, rows, reader.upto(int(numbers[-1]))
        done += len(numbers)
    if done < len(job.rows):
        raise InputError(f"{job.dataset.name} has fewer rows than when the run began; label it again")


def _row_by_row(job: Job, numbers: Any, rows: RowBatch, lines: Any) -> Iterator[Labelled]:
    entries = entries_of(lines.to_batches())
    entry = next(entries, None)
    for number, item in zip(numbers.tolist(), rows.items(), strict=True):
        while entry is not None and entry.number < number:  # of a row that is not in the job any more
            entry = next(entries, None)
        if entry is None or entry.number != number:
            raise OutputError(f"row {number + 1:,} of {job.dataset.name} has no answers; judge it: `preftree label`")
        if entry.text != job.digest(item):
            raise StaleAnswers(
                f"the answers of row {number + 1:,} ({one_line(str(entry.id))}) are about another text than is in "
                f"{job.dataset.name}; judge it again: `preftree label`"
            )
        if entry.reason is not None and not isinstance(item, Rejected):
            item = rejected(item, entry.reason)
        yield aggregated(item, job.method, entry.scores)


class _InColumns:
    """Labels of many rows at once, with the bytes that they have one by one."""

    def __init__(self, job: Job, table: LabelTable) -> None:
        self._method, self._table = job.method, table
        self._imitations = imitations_of(job.method)
        shape = job.method.answer_shape if isinstance(job.method, Columnar) else None
        # A digest is of all columns that a prompt shows: those beside the texts are looked at one by one.
        self._shape = None if columns_of(job.method) else shape

    def batch(self, numbers: Any, rows: RowBatch, lines: Any) -> tuple[Any, Any]:
        """Which of the rows have a label without more ado (a NumPy array of bools), and these as a batch of labels."""
        import numpy as np
        import pyarrow as pa

        plain, method = rows.plain if self._shape else None, self._method
        if plain is None or plain[0].kind not in method.takes:
            return np.zeros(len(numbers), np.bool_), None
        assert isinstance(method, Columnar)
        assert self._shape is not None
        answers, where = answer_arrays(lines, numbers, *self._shape)
        good = plain[1] & where
        answers, samples = answers.only(good[where]), plain[0].only(good)
        joined = joined_texts(samples)
        digests, is_known = digests_of(joined, _TEXTS + len(samples.responses))
        fresh = is_known & (digests == answers.texts)
        if not fresh.all():
            answers, samples, joined = answers.only(fresh), samples.only(fresh), joined.filter(pa.array(fresh))
            good[good] = fresh
        if not len(samples):
            return good, None
        imitates = self._imitations and self._imitations.among(samples, joined)
        tokens = answers.prompt_tokens.sum(axis=1)
        return good, self._table.plain_batch(samples, method.label_arrays(answers), tokens, imitates)


def _merged(batch: Any | None, others: Any, where: Any) -> Any:
    """Rows of two batches in one order. where: of each row, whether it is in the first."""
    import numpy as np
    import pyarrow as pa

    if batch is None:
        return others
    both = pa.Table.from_batches([batch, others])
    order = np.argsort(np.concatenate([np.flatnonzero(where), np.flatnonzero(~where)]))
    [merged] = both.take(pa.array(order)).combine_chunks().to_batches()
    return merged
