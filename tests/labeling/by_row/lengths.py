"""Whether a judge likes long responses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from preftree.labeling.report.intervals import wilson_interval
from preftree.labeling.types import Pair, Verdict
from tests.labeling.by_row.agreement import share


@dataclass
class LengthBiasByRow:
    """Of each pair: characters of A less those of B, p_a - 0.5, the verdict, and gold."""

    rows: list[tuple[int, float, Verdict, str | None]] = field(default_factory=list)

    def add(self, pair: Pair, p_a: float, verdict: Verdict) -> None:
        self.rows.append((len(pair.response_a) - len(pair.response_b), p_a - 0.5, verdict, pair.gold))

    def figures(self) -> dict[str, Any] | None:
        chosen = [
            difference if verdict == "a" else -difference for difference, _, verdict, _ in self.rows if verdict != "tie"
        ]
        decided = [more for more in chosen if more]
        by_gold = [more if gold == "a" else -more for more, _, _, gold in self.rows if gold in ("a", "b") and more]
        if not decided:
            return None
        longer = sum(more > 0 for more in decided)
        return {
            "verdicts": len(decided),
            "chose_longer": longer / len(decided),
            "chose_longer_interval": wilson_interval(longer, len(decided)),
            "gold_chose_longer": share(sum(more > 0 for more in by_gold), len(by_gold)),
            "mean_chosen_minus_other": sum(chosen) / len(chosen),
            "correlation": self._correlation(),
        }

    def _correlation(self) -> float | None:
        """Pearson's. Every pair counts both ways round, so that both means are 0."""
        both = np.array([(sign * more, sign * leaning) for more, leaning, _, _ in self.rows for sign in (1, -1)])
        return float(np.corrcoef(both.T)[0, 1]) if both.any(0).all() else None
