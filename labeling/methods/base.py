"""The interface of a labelling method: two pure functions, and what the pipeline must know of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from preftree.labeling.answers.arrays import AnswerArrays
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import ArrowType, Label, Request, RequestScores, Sample


class Method(Protocol):
    """name: on the command line. takes: the kinds of samples that it can ask about. columns: that labels may have."""

    @property
    def name(self) -> str: ...

    @property
    def takes(self) -> tuple[type[Sample], ...]: ...

    @property
    def columns(self) -> Mapping[str, ArrowType]: ...

    def requests(self, sample: Sample) -> Sequence[Request]:
        """The prompts for a sample, always the same ones. InputError for one that cannot be asked about."""

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> Label:
        """The label, from the scores of `requests(sample)`. InputError when none can be made of them."""

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """For people: what came back for each request, from a labelled row's columns; [] where columns do not tell."""

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """What the judge wrote for each request before it answered, from the same; [] where it was not to explain."""

    def record(self) -> dict[str, Any]:
        """For run.json: name to JSON value, enough to ask the same again."""


@runtime_checkable
class NeedsFigures(Protocol):
    """A method whose labels depend on the other rows of a run: they are made once, looked at, and made again."""

    def with_figures(self, labels: Iterable[Label]) -> Method:
        """The method that makes the final labels. labels: those that this one has made, of all rows with a label."""


@runtime_checkable
class FillsSome(Protocol):
    """A method whose labels leave some of its columns empty: those of other kinds of samples, or of other options."""

    def filled(self, kinds: Collection[type[Sample]]) -> Mapping[str, ArrowType]:
        """Of `columns` those in which labels of such samples have values; of nested ones the fields."""


@runtime_checkable
class HasBeginnings(Protocol):
    """A method whose prompts of one sample begin in several ways.

    Prompts are cut into batches in sorted order. A window of one batch would run every beginning again; one of as many
    batches as there are beginnings runs each of them about once.
    """

    @property
    def beginnings(self) -> int: ...


@runtime_checkable
class Columnar(Protocol):
    """A method that makes labels of many samples at once, with the bits that `aggregate` would make."""

    @property
    def answer_shape(self) -> tuple[int, int] | None:
        """How many requests a sample has, and labels each; None where labels can only be made one by one."""

    def label_arrays(self, answers: AnswerArrays) -> dict[str, Any]:
        """By column: NumPy or pyarrow arrays with a value for each row of these answers, which have that shape."""
