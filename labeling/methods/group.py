"""The responses of one prompt compared with each other: how often each wins, under a method for pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from preftree.labeling.methods.principled import Principled
from preftree.labeling.methods.ranking import compared_pairs
from preftree.labeling.methods.ranking_labels import Matrix
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.methods.set_labels import SetsLabel
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import ArrowType, Label, Pair, PairLabel, RequestScores, ResponseSet, Sample, ScoreRequest

if TYPE_CHECKING:
    from preftree.labeling.calibration.artefact import Calibration


@dataclass(frozen=True)
class GroupLabel:
    """Who won against whom. Responses are told by their index, from 0.

    Attributes:
        win_matrix: [i][j] is P(i better than j), the mean of both orders and of all sets of principles; None where i is
            j or they were not compared.
        label_mass: the lowest of all prompts.
        position_gap: mean of all comparisons; above 0 leans to the response shown first.
        prompt_tokens: of all prompts.
    """

    win_matrix: Matrix
    label_mass: float
    position_gap: float
    prompt_tokens: int

    COLUMNS: ClassVar[Mapping[str, ArrowType]] = {
        "win_rates": ["double"],
        "win_matrix": [["double"]],
        "label_mass": "double",
        "position_gap": "double",
    }

    @property
    def win_rates(self) -> list[float]:
        """Of each response: its mean probability of being better than a response that it was compared with."""
        met = ([p for p in row if p is not None] for row in self.win_matrix)
        return [math.fsum(row) / len(row) for row in met]

    def values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.COLUMNS}


@dataclass(frozen=True)
class Group:
    """Compares responses two by two, each pair in both orders.

    Attributes:
        pairs: how two are compared.
        comparisons: an even number of prompts under each set of principles; None for all ordered pairs.
        calibration: of the probability that one is better than another; None for what the judge says.
    """

    pairs: Rlaif | Principled
    comparisons: int | None = None
    calibration: Calibration | None = None

    name: ClassVar[str] = "group"
    takes: ClassVar[tuple[type[Sample], ...]] = (ResponseSet,)
    columns: ClassVar[Mapping[str, ArrowType]] = GroupLabel.COLUMNS

    def requests(self, sample: Sample) -> list[ScoreRequest]:
        """Those of all pairs."""
        return [request for _, _, pair in self._compared(sample) for request in self.pairs.requests(pair)]

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> GroupLabel:
        """Raises InputError when a score is not finite."""
        assert isinstance(sample, ResponseSet)
        compared = list(self._compared(sample))
        each = len(scores) // len(compared)
        matrix: Matrix = [[None] * len(sample.responses) for _ in sample.responses]
        found: list[PairLabel] = []
        for place, (i, j, pair) in enumerate(compared):
            labels = _labels_of(self.pairs.aggregate(pair, scores[place * each : (place + 1) * each]))
            p = math.fsum(label.p_a for label in labels) / len(labels)
            matrix[i][j] = p = p if self.calibration is None else self.calibration.at(p)
            matrix[j][i] = 1.0 - p
            found += labels
        return GroupLabel(
            matrix,
            min(min(label.label_mass_first, label.label_mass_second) for label in found),
            math.fsum(label.position_gap for label in found) / len(found),
            sum(one.prompt_tokens for one in scores),
        )

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """The columns do not tell the orders apart."""
        return []

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """They are not kept."""
        return []

    def record(self) -> dict[str, Any]:
        """How two are compared, and how often."""
        return {**self.pairs.record(), "comparisons": self.comparisons}

    def _compared(self, sample: Sample) -> Iterator[tuple[int, int, Pair]]:
        assert isinstance(sample, ResponseSet)
        return compared_pairs(sample, self.comparisons)


def _labels_of(label: Label) -> list[PairLabel]:
    """Of a pair: one, or one under each set of principles."""
    labels = label.labels if isinstance(label, SetsLabel) else (label,)
    return [one for one in labels if isinstance(one, PairLabel)]
