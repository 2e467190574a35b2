"""Figures of single responses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from preftree.labeling.methods.score_labels import DirectLabel, Score
from preftree.labeling.report.intervals import wilson_interval
from preftree.labeling.types import Label, Pair, Sample
from tests.labeling.by_row.agreement import Agreement
from tests.labeling.by_row.pairs import LOW_MASS
from tests.labeling.by_row.win_rate import WinRateByRow


@dataclass
class ScoreByRow:
    """Running figures over scored responses; a pair has two. num_values: how many numbers the scale has.

    The standard deviation is that of the responses at hand (divided by their number). Scores that tie against a gold
    that does not count as half an agreement.
    """

    num_values: int
    responses: int = 0
    low_mass: int = 0
    pairs: int = 0
    ties: int = 0
    gold_ties: int = 0
    gold: Agreement = field(default_factory=Agreement)
    wins: WinRateByRow = field(default_factory=WinRateByRow)
    rewards: dict[str, list[float]] = field(default_factory=lambda: {"": [], "_a": [], "_b": []})
    _mean: float = 0.0
    _squares: float = 0.0
    _entropy: float = 0.0
    _mass: float = 0.0

    def add(self, sample: Sample, label: Label) -> None:
        assert isinstance(label, DirectLabel)
        for end, score in zip(("_a", "_b") if len(label.scores) == 2 else ("",), label.scores, strict=True):
            self._add_score(score)
            self.rewards[end].append(score.reward)
        verdict = label.verdict
        if not isinstance(sample, Pair) or verdict is None:
            return
        self.pairs += 1
        self.ties += verdict == "tie"
        self.wins.add(sample, verdict, None)
        if sample.gold in ("a", "b"):
            self.gold_ties += verdict == "tie"
            self.gold.add(verdict, sample.gold)

    def _add_score(self, score: Score) -> None:
        """Welford's update, which takes no difference of large sums."""
        self.responses += 1
        gap = score.score - self._mean
        self._mean += gap / self.responses
        self._squares += gap * (score.score - self._mean)
        self._entropy += score.entropy
        self._mass += score.label_mass
        self.low_mass += score.label_mass < LOW_MASS

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""
        counts = ("responses", "low_mass", "pairs", "ties", "gold_ties")
        gold = self.gold.figures() if self.gold.pairs else {}
        shares = {name: gold.get(name) for name in ("agreement", "agreement_interval")}
        agreed = {"gold_pairs": self.gold.pairs, "agreements": self.gold.agreements}
        rewards = {f"reward_above_0{end}": _above_0(values) for end, values in self.rewards.items()}
        own = {name: getattr(self, name) for name in counts} | {"win_rate": self.wins.figures()}
        return own | self._means() | agreed | shares | rewards

    def _means(self) -> dict[str, float | None]:
        if not self.responses:
            return dict.fromkeys(("mean_score", "std_score", "mean_entropy", "mean_label_mass"))
        return {
            "mean_score": self._mean,
            "std_score": math.sqrt(self._squares / self.responses),
            "mean_entropy": self._entropy / self.responses,
            "mean_label_mass": self._mass / self.responses,
        }


def _above_0(rewards: Sequence[float]) -> dict[str, Any] | None:
    above = sum(reward > 0 for reward in rewards)
    if not rewards:
        return None
    interval = wilson_interval(above, len(rewards))
    return {"responses": len(rewards), "share": above / len(rewards), "interval": interval}
