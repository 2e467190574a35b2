"""How the direct scores of a run are spread, and how often they agree with gold. Constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from preftree.labeling.methods.score_labels import DirectLabel, Score
from preftree.labeling.report.pairs import LOW_MASS
from preftree.labeling.report.subsets import Agreement
from preftree.labeling.terminal import count
from preftree.labeling.types import Label, Pair, Sample


@dataclass
class ScoreQuality:
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
    _mean: float = 0.0
    _squares: float = 0.0
    _entropy: float = 0.0
    _mass: float = 0.0

    def add(self, sample: Sample, label: Label) -> None:
        assert isinstance(label, DirectLabel)
        for score in label.scores:
            self._add_score(score)
        verdict = label.verdict
        if not isinstance(sample, Pair) or verdict is None:
            return
        self.pairs += 1
        self.ties += verdict == "tie"
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
        return {name: getattr(self, name) for name in counts} | self._means() | agreed | shares

    def _means(self) -> dict[str, float | None]:
        if not self.responses:
            return dict.fromkeys(("mean_score", "std_score", "mean_entropy", "mean_label_mass"))
        return {
            "mean_score": self._mean,
            "std_score": math.sqrt(self._squares / self.responses),
            "mean_entropy": self._entropy / self.responses,
            "mean_label_mass": self._mass / self.responses,
        }

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal: name and text; figures that have nothing to stand on are left out."""
        lines = []
        if self.gold.pairs:
            half = f"; {count(self.gold_ties, 'tie')} counted half" if self.gold_ties else ""
            lines.append(("agreement with gold", self.gold.text() + half))
        if self.responses:
            means = self._means()
            spread = f"mean {means['mean_score']:.3f}, standard deviation {means['std_score']:.3f}"
            lines.append(("score", f"{spread}, of {count(self.responses, 'response')}"))
            most = f"{math.log(self.num_values):.3f} where all {self.num_values} are equally probable"
            lines.append(("entropy", f"mean {means['mean_entropy']:.3f} nats; {most}"))
            low = f"; {count(self.low_mass, 'response')} under {LOW_MASS}" if self.low_mass else ""
            lines.append(("label mass", f"mean {means['mean_label_mass']:.3f}{low}"))
        if self.ties:
            lines.append(("ties", count(self.ties, "pair")))
        return lines
