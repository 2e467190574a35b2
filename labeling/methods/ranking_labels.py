"""A ranking of several responses: what a row's label holds, and how good the labels of a run are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

from preftree.labeling.report.pairs import PairQuality
from preftree.labeling.terminal import count
from preftree.labeling.types import ArrowType, Label, Pair, PairLabel, ResponseSet, Sample

TIED = 1e-9  # nats; ten times what strengths are exact to
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

Matrix = list[list[float | None]]


@dataclass(frozen=True)
class RankingLabel:
    """Comparisons of responses, and what follows from them. Responses are told by their index, from 0.

    comparisons: (i, j, label) with i < j, where the label's A is i and its B is j. strengths: see
    `preftree.labeling.methods.bradley_terry`. prompt_tokens: of all prompts.
    """

    comparisons: tuple[tuple[int, int, PairLabel], ...]
    strengths: tuple[float, ...]
    prompt_tokens: int

    COLUMNS: ClassVar[Mapping[str, ArrowType]] = {
        "ranking": ["int64"],
        "tied": [["int64"]],
        "best": "int64",
        "worst": "int64",
        "p_best": "double",
        "strengths": ["double"],
        "win_matrix": [["double"]],
        "win_matrix_first": [["double"]],
        "position_gap_mean": "double",
        "label_mass_min": "double",
    }

    def values(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.COLUMNS}

    @property
    def win_matrix(self) -> Matrix:
        """[i][j]: P(i better than j), averaged over both orders; None where i is j or they were not compared."""
        matrix = self._empty()
        for i, j, label in self.comparisons:
            matrix[i][j], matrix[j][i] = label.p_a, 1.0 - label.p_a
        return matrix

    @property
    def win_matrix_first(self) -> Matrix:
        """The same of one order: with i shown first."""
        matrix = self._empty()
        for i, j, label in self.comparisons:
            matrix[i][j], matrix[j][i] = label.p_a_first, 1.0 - label.p_a_second
        return matrix

    @property
    def ranking(self) -> list[int]:
        """The strongest first; of those that tie, the one with the smaller index."""
        return [index for group in self._groups() for index in group]

    @property
    def tied(self) -> list[list[int]]:
        """Groups of responses whose strengths are the same, within 1e-9 nats."""
        return [group for group in self._groups() if len(group) > 1]

    @property
    def best(self) -> int | None:
        """The first of the ranking; None where all responses tie."""
        return self.ranking[0] if len(self._groups()) > 1 else None

    @property
    def worst(self) -> int | None:
        """The last of the ranking; None where all responses tie."""
        return self.ranking[-1] if len(self._groups()) > 1 else None

    @property
    def p_best(self) -> float | None:
        """P(best better than worst), as their strengths have it."""
        if self.best is None or self.worst is None:
            return None
        return 1.0 / (1.0 + math.exp(self.strengths[self.worst] - self.strengths[self.best]))

    @property
    def position_gap_mean(self) -> float:
        """Mean of the comparisons' position gaps: above 0 leans to the response shown first."""
        return math.fsum(label.position_gap for _, _, label in self.comparisons) / len(self.comparisons)

    @property
    def label_mass_min(self) -> float:
        return min(min(label.label_mass_first, label.label_mass_second) for _, _, label in self.comparisons)

    def triads(self) -> tuple[int, int]:
        """(all, circular): triples with a winner in each of their comparisons; those in which each has won one."""
        size = len(self.strengths)
        beats, beaten_by = [0] * size, [0] * size  # sets of responses, as bits
        for i, j, label in self.comparisons:
            if label.verdict != "tie":
                winner, loser = (i, j) if label.verdict == "a" else (j, i)
                beats[winner] |= 1 << loser
                beaten_by[loser] |= 1 << winner
        decided = [wins | losses for wins, losses in zip(beats, beaten_by, strict=True)]
        met = [(i, j) for i in range(size) for j in range(size) if beats[i] >> j & 1]
        together = sum((decided[i] & decided[j]).bit_count() for i, j in met)
        circular = sum((beats[j] & beaten_by[i]).bit_count() for i, j in met)
        return together // 3, circular // 3

    def _empty(self) -> Matrix:
        return [[None] * len(self.strengths) for _ in self.strengths]

    def _groups(self) -> list[list[int]]:
        """The strongest first; a group goes on while neighbours tie."""
        by_strength = sorted(range(len(self.strengths)), key=lambda index: -self.strengths[index])
        groups = [by_strength[:1]]
        for above, below in pairwise(by_strength):
            if self.strengths[above] - self.strengths[below] <= TIED:
                groups[-1].append(below)
            else:
                groups.append([below])
        return [sorted(group) for group in groups]


@dataclass
class RankingQuality:
    """Running figures over ranked rows: those of their comparisons, and circular triads.

    A triad is circular when i beats j, j beats k and k beats i (Kendall and Babington Smith 1940): no ranking agrees
    with it. A judge that tosses coins makes a quarter of all triads circular.
    """

    rows: int = 0
    triads: int = 0
    circular: int = 0
    pairs: PairQuality = field(default_factory=PairQuality)

    def add(self, sample: Sample, label: Label) -> None:
        assert isinstance(sample, ResponseSet)
        assert isinstance(label, RankingLabel)
        self.rows += 1
        for i, j, comparison in label.comparisons:
            self.pairs.add(Pair(sample.id, sample.prompt, sample.responses[i], sample.responses[j]), comparison)
        triads, circular = label.triads()
        self.triads += triads
        self.circular += circular

    @property
    def circular_share(self) -> float | None:
        return self.circular / self.triads if self.triads else None

    def figures(self) -> dict[str, Any]:
        """For run.json; pairs are comparisons in both orders."""
        of_pairs = self.pairs.figures()
        own = {"rows": self.rows, "triads": self.triads, "circular_triads": self.circular}
        return {**own, "circular_share": self.circular_share, **{name: of_pairs[name] for name in _OF_PAIRS}}

    def lines(self) -> list[tuple[str, str]]:
        if not self.rows:
            return []
        lines = [("comparisons", f"{count(self.pairs.pairs, 'pair')} of responses, each in both orders")]
        if self.circular_share is not None:
            circles = f"{self.circular:,} of {count(self.triads, 'triad')}"
            text = f"{self.circular_share:.1%}: {circles} have no order among themselves (tossed coins: 25.0%)"
            lines.append(("circular triads", text))
        return lines + self.pairs.lines()
