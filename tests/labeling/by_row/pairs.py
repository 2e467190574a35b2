"""Figures of pairs in both orders."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from preftree.labeling.report.intervals import wilson_interval
from preftree.labeling.types import Label, Pair, PairLabel, Sample
from tests.labeling.by_row.agreement import share
from tests.labeling.by_row.calibration import Calibration
from tests.labeling.by_row.lengths import LengthBiasByRow
from tests.labeling.by_row.win_rate import WinRateByRow

LOW_MASS = 0.5


@dataclass
class PairByRow:
    """A pair keeps its position when both orders prefer the response shown in the same place (Lee et al. 2023, section
    4.3). A label that ties against a gold that does not counts as half an agreement.
    """

    labels: list[tuple[PairLabel, str | None]] = field(default_factory=list)
    calibration: Calibration = field(default_factory=Calibration)
    lengths: LengthBiasByRow = field(default_factory=LengthBiasByRow)
    wins: WinRateByRow = field(default_factory=WinRateByRow)

    def add(self, sample: Sample, label: Label) -> None:
        assert isinstance(sample, Pair)
        assert isinstance(label, PairLabel)
        self.labels.append((label, sample.gold))
        if sample.gold in ("a", "b"):
            self.calibration.add(label.p_a, sample.gold == "a")
        self.lengths.add(sample, label.p_a, label.verdict)
        self.wins.add(sample, label.verdict, label.p_a)

    def figures(self) -> dict[str, Any]:
        """None where there was nothing to count."""
        labels, pairs = [label for label, _ in self.labels], len(self.labels)
        judged = [(label.verdict, gold) for label, gold in self.labels if gold in ("a", "b")]
        agreements = sum(0.5 if verdict == "tie" else float(verdict == gold) for verdict, gold in judged)
        kept_first = sum(label.p_a_first > 0.5 > label.p_a_second for label in labels)
        kept = kept_first + sum(label.p_a_first < 0.5 < label.p_a_second for label in labels)
        gaps = [label.position_gap for label in labels]
        masses = [(label.label_mass_first, label.label_mass_second) for label in labels]
        return {
            "pairs": pairs,
            "ties": sum(label.verdict == "tie" for label in labels),
            "gold_pairs": len(judged),
            "gold_ties": sum(verdict == "tie" for verdict, _ in judged),
            "agreements": agreements,
            "low_mass": sum(min(both) < LOW_MASS for both in masses),
            "agreement": share(agreements, len(judged)),
            "agreement_interval": wilson_interval(agreements, len(judged)) if judged else None,
            "position_bias": share(kept, pairs),
            "prefers_first": share(kept_first, kept),
            "mean_gap": share(math.fsum(gaps), pairs),
            "mean_absolute_gap": share(math.fsum(map(abs, gaps)), pairs),
            "mean_label_mass": share(math.fsum(map(sum, masses)) / 2, pairs),
            "calibration": self.calibration.figures(),
            "length_bias": self.lengths.figures(),
            "win_rate": self.wins.figures(),
        }
