"""JudgeBench (Tan et al. 2024): a pair is won where both games together speak for gold.

In each game, one with A shown first and one with B, a decision for gold counts 1, one against it -1 and a tie 0; the
pair is right where the sum is above 0 (ScalerLab/JudgeBench, utils/metrics.py). Labels without orders, such as rewards,
are a single game.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from preftree.labeling.report.arrays import column
from preftree.labeling.report.benchmarks.benchmark import PAIR_COLUMNS, Means, are_texts, games, gold_and, scored

SOURCES = ("mmlu-pro", "livebench-reasoning", "livebench-math", "livecodebench")
_PUBLISHED = ("source", "response_model")


class JudgeBench:
    """See `preftree.labeling.report.benchmarks.benchmark.Benchmark`."""

    READS: ClassVar[tuple[str, ...]] = ("source", *PAIR_COLUMNS)

    def __init__(self) -> None:
        self._means = Means("accuracy", "inconsistent")

    @classmethod
    def fits(cls, kinds: Mapping[str, Any]) -> bool:
        return are_texts(kinds, *_PUBLISHED, "verdict", "gold") and "original_id" in kinds

    def add(self, batch: Any) -> None:
        first, second = games(batch)
        gold, there = gold_and(batch, first, second)
        right = gold * first + gold * second > 0
        measured = np.stack([right, first != second], axis=1).astype(np.float64)
        self._means.add(column(batch, "source"), np.where(there[:, None], measured, np.nan))

    def figures(self) -> dict[str, Any] | None:
        names = self._means.names
        if not names:
            return None
        groups = {source: [name for name in names if name.startswith(source)] for source in SOURCES}
        parts = [self._means.part(source, mine) for source, mine in groups.items() if mine]
        overall = self._means.part("overall", names)
        scores = {"overall": overall["accuracy"], "inconsistent": overall["inconsistent"]}
        return scored("JudgeBench", scores, parts, SOURCES)
