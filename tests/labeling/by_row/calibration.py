"""Whether confidence is how often a judge is right."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

BINS = 10


@dataclass
class Calibration:
    """Confidence and whether it was right, of every pair whose gold is a or b."""

    forecasts: list[tuple[float, float, float]] = field(default_factory=list)

    def add(self, p_a: float, gold_is_a: bool) -> None:
        right = 0.5 if p_a == 0.5 else float((p_a > 0.5) == gold_is_a)
        self.forecasts.append((max(p_a, 1 - p_a), right, (p_a - gold_is_a) ** 2))

    def figures(self) -> dict[str, Any] | None:
        total, error, bins = len(self.forecasts), 0.0, []
        if not total:
            return None
        for k in range(BINS, 2 * BINS):
            last = k == 2 * BINS - 1
            mine = [one for one in self.forecasts if k / 20 <= one[0] and (last or one[0] < (k + 1) / 20)]
            if mine:
                confidence, right = (math.fsum(one[place] for one in mine) for place in (0, 1))
                error += abs(confidence - right) / total
                found = {"mean_confidence": confidence / len(mine), "correct": right / len(mine)}
                bins.append({"from": k / 20, "to": (k + 1) / 20, "pairs": len(mine), **found})
        brier = math.fsum(one[2] for one in self.forecasts) / total
        return {"pairs": total, "brier": brier, "expected_calibration_error": error, "bins": bins}
