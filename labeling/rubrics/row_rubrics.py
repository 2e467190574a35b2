"""Which rubric a row is judged by: one for all rows, or its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.data.row import OWN_FIELDS
from preftree.labeling.options.methods import RubricOptions
from preftree.labeling.rubrics.file import load_rubric
from preftree.labeling.rubrics.rubric import Rubric
from preftree.labeling.rubrics.shapes import rubric_of
from preftree.labeling.types import Sample


@dataclass(frozen=True)
class RowRubrics:
    """Rubrics by row.

    Attributes:
        shared: of all rows; None where each has its own.
        column: of the input, with the rubric of each row; None where they share one.
    """

    shared: Rubric | None = None
    column: str | None = None

    def of(self, sample: Sample) -> Rubric:
        """The rubric of a row. InputError, which begins with its kind, for a row without a good one."""
        if self.shared is not None:
            return self.shared
        value = sample.extra.get(self.column or "")
        if value is None:
            raise InputError(f"missing rubric: {self.column} is not there or null")
        try:
            return rubric_of(value)
        except InputError as error:
            raise InputError(f"bad rubric: {error}") from None

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return {"rubric": self.shared and self.shared.record(), "rubric_column": self.column}

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> RowRubrics:
        """From a `record`."""
        return cls(record["rubric"] and Rubric.recorded(record["rubric"]), record["rubric_column"])


def chosen_rubrics(options: RubricOptions) -> RowRubrics:
    """Those of `options`. Raises InputError for a file that holds none, and UsageError where there is no choice."""
    if options.rubric is not None:
        return RowRubrics(load_rubric(options.rubric))
    if options.rubric_column is None:
        raise UsageError("method rubric needs criteria: --rubric FILE for all rows, or --rubric-column COLUMN")
    if options.rubric_column in OWN_FIELDS:
        raise UsageError(f"--rubric-column {options.rubric_column}: it is what is judged; name another column")
    return RowRubrics(column=options.rubric_column)
