"""Figures under each of several sets of principles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from preftree.labeling.methods.set_labels import SetsLabel
from preftree.labeling.types import Label, PairLabel, Sample
from tests.labeling.by_row.pairs import PairByRow
from tests.labeling.by_row.scores import ScoreByRow


class PrincipledByRow:
    """Running figures under each set: those of pairs, and those of single responses."""

    def __init__(self, names: Sequence[str], num_values: int) -> None:
        """num_values: see `ScoreByRow`."""
        self._sets = [(name, PairByRow(), ScoreByRow(num_values)) for name in names]

    def add(self, sample: Sample, label: Label) -> None:
        assert isinstance(label, SetsLabel)
        for (_, pairs, singles), of_set in zip(self._sets, label.labels, strict=True):
            (pairs if isinstance(of_set, PairLabel) else singles).add(sample, of_set)

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""
        return {
            "sets": [
                {
                    "name": name,
                    "pairs": pairs.figures() if pairs.labels else None,
                    "responses": singles.figures() if singles.responses else None,
                }
                for name, pairs, singles in self._sets
            ]
        }
