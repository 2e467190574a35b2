"""A method whose probabilities of pairs are calibrated: what is asked stays as it is, and so does every verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from preftree.engine.errors import UsageError
from preftree.labeling.answers.arrays import AnswerArrays
from preftree.labeling.calibration.identity import CALIBRATION
from preftree.labeling.data.columns import UNCALIBRATED
from preftree.labeling.methods.base import Columnar, FillsSome, Method, NeedsFigures
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import ArrowType, Label, Request, RequestScores, Sample, Verdict

if TYPE_CHECKING:
    from preftree.labeling.calibration.artefact import Calibration


@dataclass(frozen=True)
class CalibratedLabel:
    """A label with another p_a, and what p_a was.

    Attributes:
        label: the method's.
        calibration: of its p_a.
    """

    label: Label
    calibration: Calibration

    @property
    def prompt_tokens(self) -> int:
        return self.label.prompt_tokens

    @property
    def p_a(self) -> float | None:
        """The calibrated probability; None for a row that is no pair."""
        found: float | None = self.values()["p_a"]
        return found

    @property
    def verdict(self) -> Verdict | None:
        """The label's."""
        found: Verdict | None = self.values()["verdict"]
        return found

    def values(self) -> dict[str, Any]:
        values = self.label.values()
        p_a = values["p_a"]
        return {**values, "p_a": None if p_a is None else self.calibration.at(p_a), UNCALIBRATED: p_a}


@dataclass(frozen=True)
class Calibrated:
    """A method and the calibration of its p_a.

    Attributes:
        method: with labels that have p_a.
        calibration: of it.
        source: what the calibration is called in messages.
    """

    method: Method
    calibration: Calibration
    source: str

    @property
    def name(self) -> str:
        return self.method.name

    @property
    def takes(self) -> tuple[type[Sample], ...]:
        return self.method.takes

    @property
    def columns(self) -> Mapping[str, ArrowType]:
        return {**self.method.columns, UNCALIBRATED: "double"}

    def filled(self, kinds: Collection[type[Sample]]) -> Mapping[str, ArrowType]:
        """See `preftree.labeling.methods.base.FillsSome`."""
        found = self.method.filled(kinds) if isinstance(self.method, FillsSome) else self.method.columns
        return {**found, UNCALIBRATED: "double"} if "p_a" in found else found

    def requests(self, sample: Sample) -> Sequence[Request]:
        """Those of the method."""
        return self.method.requests(sample)

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> CalibratedLabel:
        """Raises InputError where the method does."""
        return CalibratedLabel(self.method.aggregate(sample, scores), self.calibration)

    @property
    def answer_shape(self) -> tuple[int, int] | None:
        """See `preftree.labeling.methods.base.Columnar`."""
        return self.method.answer_shape if isinstance(self.method, Columnar) else None

    def label_arrays(self, answers: AnswerArrays) -> dict[str, Any]:
        """`aggregate` of many samples."""
        assert isinstance(self.method, Columnar)
        found = self.method.label_arrays(answers)
        return {**found, "p_a": self.calibration.apply(found["p_a"]), UNCALIBRATED: found["p_a"]}

    def with_figures(self, labels: Iterable[Label]) -> Method:
        """See `preftree.labeling.methods.base.NeedsFigures`."""
        if not isinstance(self.method, NeedsFigures):
            return self
        own = (label.label for label in labels if isinstance(label, CalibratedLabel))
        return replace(self, method=self.method.with_figures(own))

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """Those of the method."""
        return self.method.answers(values)

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """Those of the method."""
        return self.method.rationales(values)

    def check(self, record: Mapping[str, Any]) -> None:
        """InputError where the calibration is of another judge, or of one that was asked in another way.

        record: a run.json, or its `options` and `scorer`.
        """
        self.calibration.check({**record, "method": {"name": self.name, **self.method.record()}}, self.source)

    def record(self) -> dict[str, Any]:
        """For run.json: the whole calibration, so that labels can be made again when its file is gone."""
        own = {"sha256": self.calibration.sha256, "source": self.calibration.record()}
        return {**self.method.record(), CALIBRATION: own}


def calibrated(method: Method, path: str, recorded: Mapping[str, Any] | None) -> Calibrated:
    """The method with the calibration of a file, or with that of its record. Raises InputError and UsageError."""
    if "p_a" not in method.columns:
        raise UsageError(
            f"--calibration is about p_a, the probability that A is better, which method {method.name} does not give "
            "here; leave it out"
        )
    from preftree.labeling.calibration.artefact import Calibration

    if recorded is None or CALIBRATION not in recorded:
        return Calibrated(method, Calibration.read(path), path)
    return Calibrated(method, Calibration.recorded(recorded[CALIBRATION]["source"], path), path)
