"""What a run is about: an input, a method, and which rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from preftree.labeling.answers.digest import digest_of
from preftree.labeling.data.batches import RowBatch
from preftree.labeling.data.column import Column
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.prompts import Prompts
from preftree.labeling.data.selection import rows_of, selection_of
from preftree.labeling.methods.base import Method
from preftree.labeling.methods.calibrated import Calibrated
from preftree.labeling.methods.registry import columns_of, open_method
from preftree.labeling.options.candidates import SampleOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.pipeline import check_kinds
from preftree.labeling.runs.manifest import manifest
from preftree.labeling.runs.recorded import options_again
from preftree.labeling.types import Pair, Prompt, Rejected, Sample


@dataclass(frozen=True)
class Job:
    """What is to be labelled, how.

    Attributes:
        options: as they were chosen.
        dataset: the opened input.
        method: what is asked, and what is made of answers.
        rows: their numbers, from 0 and ascending: a NumPy array of int64.
    """

    options: LabelOptions | SampleOptions
    dataset: Dataset
    method: Method
    rows: Any

    @classmethod
    def of(cls, options: LabelOptions | SampleOptions, method: Method, dataset: Dataset | None = None) -> Job:
        """Looks at the whole input. Raises InputError for what is cheap to find wrong with it."""
        kind = Prompts if method.takes == (Prompt,) else Dataset
        dataset = dataset or kind.open(options.input, options.mapping, options.offline)
        found = dataset.info
        check_kinds(found, method)
        if options.subset is not None:
            found.check_column(options.subset, "for --by")
        if isinstance(options, LabelOptions) and options.boost:
            found.check_column(options.tag_column, "for --boost; name another with --tag-column")
        if isinstance(options, LabelOptions) and options.rubric_column:
            found.check_column(options.rubric_column, "of rubrics; name another with --rubric-column")
        return cls(options, dataset, method, rows_of(found.rows, **selection_of(vars(options))))

    @classmethod
    def again(cls, record: Mapping[str, Any], dataset: Dataset, **changes: Any) -> Job:
        """That of a run, with `changes` to its options. Raises PreftreeError.

        record: a run.json. dataset: what was labelled.
        """
        once = {"retry_rejects": False, "force_new": False, "overwrite": False, "profile": None}
        options = options_again(LabelOptions, record, input=dataset.paths, **once, **changes)
        return cls.of(options, open_method(options, record["method"]), dataset)

    def check_calibration(self, record: Mapping[str, Any]) -> None:
        """InputError where labels are to be calibrated, and were judged by another judge. record: with its judge."""
        if isinstance(self.method, Calibrated):
            self.method.check(record)

    @property
    def noun(self) -> str:
        takes = self.method.takes
        return "pair" if takes == (Pair,) else "prompt" if takes == (Prompt,) else "row"

    @cached_property
    def _columns(self) -> tuple[Column, ...]:
        return columns_of(self.method)

    def digest(self, item: Sample | Rejected) -> int | None:
        """Of all that a prompt shows of a row; None for a bad one."""
        return digest_of(item, self._columns)

    def items(self) -> Iterator[Sample | Rejected]:
        """The rows, in the order of the input."""
        return self.dataset.pick(self.rows)

    def batches(self) -> Iterator[tuple[Any, RowBatch]]:
        """The same, a batch at a time, each with the numbers of its rows (a NumPy array)."""
        return self.dataset.batches(self.rows)

    def manifest(self) -> dict[str, Any]:
        """What is known of the run before its model is loaded."""
        return manifest(self.options, self.dataset, self.method, len(self.rows))
