"""LLMBar (Zeng et al. 2024): accuracy averaged over both orders, and how often both orders choose the same output.

The figures of princeton-nlp/LLMBar, LLMEvaluator/evaluate.py: correct_average, equal and correct_both. A tie is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from preftree.labeling.report.arrays import column
from preftree.labeling.report.benchmarks.benchmark import PAIR_COLUMNS, Means, are_texts, games, gold_and, mean, scored

NATURAL = "Natural"
ADVERSARIAL = tuple(f"Adversarial_{name}" for name in ("Neighbor", "GPTInst", "GPTOut", "Manual"))
_SUBSETS = (NATURAL, *ADVERSARIAL)


class LlmBar:
    """See `preftree.labeling.report.benchmarks.benchmark.Benchmark`."""

    READS: ClassVar[tuple[str, ...]] = ("subset", *PAIR_COLUMNS)

    def __init__(self) -> None:
        self._means = Means("accuracy", "positional agreement", "both right", only=_SUBSETS)

    @classmethod
    def fits(cls, kinds: Mapping[str, Any]) -> bool:
        return are_texts(kinds, "subset", "verdict", "gold")

    def add(self, batch: Any) -> None:
        first, second = games(batch)
        gold, there = gold_and(batch, first, second)
        right = np.stack([first == gold, second == gold], axis=1)
        measured = np.stack([right.mean(axis=1), first == second, right.all(axis=1)], axis=1)
        self._means.add(column(batch, "subset"), np.where(there[:, None], measured, np.nan))

    def figures(self) -> dict[str, Any] | None:
        """Adversarial: the mean of its subsets, whatever their sizes."""
        parts = [self._means.part(name) for name in _SUBSETS if name in self._means.names]
        if not parts:
            return None
        accuracy = {part["name"]: part["accuracy"] for part in parts}
        adversarial = mean([accuracy.get(name) for name in ADVERSARIAL])
        return scored("LLMBar", {"natural": accuracy.get(NATURAL), "adversarial": adversarial}, parts, _SUBSETS)
