"""RewardBench 2 (Malik et al. 2025): best of four by subset, Ties by its own rule, and the mean of the subsets.

A response set is right where its first response has the highest score, shared by the number that have it
(allenai/reward-bench, rewardbench/utils.py, reroll_and_score_dataset). Scores are rewards or Bradley-Terry strengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from preftree.labeling.data.benchmarks import is_ties
from preftree.labeling.report.arrays import column, is_numbers
from preftree.labeling.report.benchmarks.benchmark import Means, are_texts, mean, scored
from preftree.labeling.report.benchmarks.ties import TiesScore

SUBSETS = ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties")
_SCORES = ("rewards", "strengths")
_SAME = 1e-9  # strengths are fitted to about a tenth of it


class RewardBench2:
    """See `preftree.labeling.report.benchmarks.benchmark.Benchmark`."""

    READS: ClassVar[tuple[str, ...]] = ("id", "subset", "num_correct", *_SCORES)

    def __init__(self) -> None:
        self._means = Means("accuracy")
        self._ties = TiesScore()

    @classmethod
    def fits(cls, kinds: Mapping[str, Any]) -> bool:
        return (
            are_texts(kinds, "id", "subset")
            and "total_completions" in kinds
            and is_numbers(kinds.get("num_correct"))
            and any(is_numbers(kinds.get(name), 1) for name in _SCORES)
        )

    def add(self, batch: Any) -> None:
        right = np.full((len(batch), 1), np.nan)
        for place, subset, scores, number in _rows(batch):
            if is_ties(subset):
                self._ties.add(column(batch, "id")[place].as_py(), scores, number)
            else:
                best = [abs(score - max(scores)) <= _SAME for score in scores]
                right[place] = best[0] / sum(best)
        self._means.add(column(batch, "subset"), right)

    def figures(self) -> dict[str, Any] | None:
        """ties: what the score of the subset Ties is made of."""
        there = [*SUBSETS[:-1], *(name for name in self._means.names if name not in SUBSETS)]
        parts = [self._means.part(name) for name in there if name in self._means.names]
        ties = self._ties.figures()
        if ties is not None:
            parts.append({"name": SUBSETS[-1], "rows": ties["rows"], "accuracy": ties["score"]})
        if not parts:
            return None
        average = mean([part["accuracy"] for part in parts])
        return scored("RewardBench 2", {"average": average}, parts, SUBSETS, ties=ties)


def _rows(batch: Any) -> Iterator[tuple[int, str, Sequence[float], int]]:
    """Of each row with scores: its place, subset, scores, and how many of these are of right responses."""
    found = next(one for name in _SCORES if (one := column(batch, name)) is not None)
    rows = zip(
        column(batch, "subset").to_pylist(), found.to_pylist(), column(batch, "num_correct").to_pylist(), strict=True
    )
    for place, (subset, scores, number) in enumerate(rows):
        if subset is not None and scores and number and None not in scores:
            yield place, subset, scores, int(number)
