"""Figures of rankings: those of their comparisons, and circular triads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from preftree.labeling.methods.ranking_labels import RankingLabel
from preftree.labeling.types import Label, Pair, ResponseSet, Sample
from tests.labeling.by_row.pairs import PairByRow

_OF_PAIRS = (
    "pairs",
    "ties",
    "low_mass",
    "position_bias",
    "prefers_first",
    "mean_gap",
    "mean_absolute_gap",
    "mean_label_mass",
    "length_bias",
)


def triads(label: RankingLabel) -> tuple[int, int]:
    """(all, circular): triples with a winner in each of their comparisons; those in which each has won one."""
    size = len(label.strengths)
    beats, beaten_by = [0] * size, [0] * size  # sets of responses, as bits
    for i, j, compared in label.comparisons:
        if compared.verdict != "tie":
            winner, loser = (i, j) if compared.verdict == "a" else (j, i)
            beats[winner] |= 1 << loser
            beaten_by[loser] |= 1 << winner
    decided = [wins | losses for wins, losses in zip(beats, beaten_by, strict=True)]
    met = [(i, j) for i in range(size) for j in range(size) if beats[i] >> j & 1]
    together = sum((decided[i] & decided[j]).bit_count() for i, j in met)
    circular = sum((beats[j] & beaten_by[i]).bit_count() for i, j in met)
    return together // 3, circular // 3


@dataclass
class RankingByRow:
    """Running figures over ranked rows: those of their comparisons, and circular triads.

    A triad is circular when i beats j, j beats k and k beats i (Kendall and Babington Smith 1940): no ranking agrees
    with it. A judge that tosses coins makes a quarter of all triads circular.
    """

    rows: int = 0
    triads: int = 0
    circular: int = 0
    pairs: PairByRow = field(default_factory=PairByRow)

    def add(self, sample: Sample, label: Label) -> None:
        assert isinstance(sample, ResponseSet)
        assert isinstance(label, RankingLabel)
        self.rows += 1
        for i, j, comparison in label.comparisons:
            self.pairs.add(Pair(sample.id, sample.prompt, sample.responses[i], sample.responses[j]), comparison)
        found, circular = triads(label)
        self.triads += found
        self.circular += circular

    @property
    def circular_share(self) -> float | None:
        return self.circular / self.triads if self.triads else None

    def figures(self) -> dict[str, Any]:
        """For run.json; pairs are comparisons in both orders."""
        of_pairs = self.pairs.figures()
        own = {"rows": self.rows, "triads": self.triads, "circular_triads": self.circular}
        return {**own, "circular_share": self.circular_share, **{name: of_pairs[name] for name in _OF_PAIRS}}
