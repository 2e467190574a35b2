"""A ranking of several responses: what a row's label holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from preftree.labeling.types import ArrowType, PairLabel

TIED = 1e-9  # nats; ten times what strengths are exact to
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
        "mass_matrix_first": [["double"]],
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
    def mass_matrix_first(self) -> Matrix:
        """[i][j]: probability of the label tokens together, with i shown first; None as in `win_matrix`."""
        matrix = self._empty()
        for i, j, label in self.comparisons:
            matrix[i][j], matrix[j][i] = label.label_mass_first, label.label_mass_second
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
