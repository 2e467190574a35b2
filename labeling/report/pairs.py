"""How good the labels of a run are: agreement with gold, calibration, position and length bias, label mass.

Constant memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from preftree.labeling.report.calibration import Calibration
from preftree.labeling.report.intervals import interval_text
from preftree.labeling.report.intervals import wilson_interval as wilson_interval
from preftree.labeling.report.lengths import LengthBias
from preftree.labeling.terminal import count
from preftree.labeling.types import Label, Pair, PairLabel, Sample

LOW_MASS = 0.5


class Quality(Protocol):
    """Figures of a run, gathered row by row."""

    def add(self, sample: Sample, label: Label) -> None:
        """One more labelled row."""

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal: name and text; figures that have nothing to stand on are left out."""


@dataclass
class PairQuality:
    """Running figures over labelled pairs.

    A pair keeps its position when both orders prefer the response shown in the same place (Lee et al. 2023,
    section 4.3). A label that ties against a gold that does not counts as half an agreement.
    """

    pairs: int = 0
    ties: int = 0
    gold_pairs: int = 0
    gold_ties: int = 0
    agreements: float = 0.0
    kept_first: int = 0
    kept_second: int = 0
    low_mass: int = 0
    calibration: Calibration = field(default_factory=Calibration)
    lengths: LengthBias = field(default_factory=LengthBias)
    _gap: float = 0.0
    _absolute_gap: float = 0.0
    _mass: float = 0.0

    def add(self, sample: Sample, label: Label) -> None:
        assert isinstance(sample, Pair)
        assert isinstance(label, PairLabel)
        gold, verdict, gap = sample.gold, label.verdict, label.position_gap
        self.pairs += 1
        tie = verdict == "tie"
        self.ties += tie
        if gold in ("a", "b"):
            self.gold_pairs += 1
            self.gold_ties += tie
            self.agreements += 0.5 if tie else float(verdict == gold)
            self.calibration.add(label.p_a, gold == "a")
        self.lengths.add(sample, label.p_a, verdict)
        self.kept_first += label.p_a_first > 0.5 > label.p_a_second
        self.kept_second += label.p_a_first < 0.5 < label.p_a_second
        self._gap += gap
        self._absolute_gap += abs(gap)
        self._mass += (label.label_mass_first + label.label_mass_second) / 2
        self.low_mass += min(label.label_mass_first, label.label_mass_second) < LOW_MASS

    @property
    def agreement(self) -> float | None:
        return self.agreements / self.gold_pairs if self.gold_pairs else None

    @property
    def agreement_interval(self) -> tuple[float, float] | None:
        return wilson_interval(self.agreements, self.gold_pairs) if self.gold_pairs else None

    @property
    def kept(self) -> int:
        return self.kept_first + self.kept_second

    @property
    def position_bias(self) -> float | None:
        return self.kept / self.pairs if self.pairs else None

    @property
    def prefers_first(self) -> float | None:
        """Of the pairs that keep their position: the share that prefers the first."""
        return self.kept_first / self.kept if self.kept else None

    @property
    def mean_gap(self) -> float | None:
        return self._gap / self.pairs if self.pairs else None

    @property
    def mean_absolute_gap(self) -> float | None:
        return self._absolute_gap / self.pairs if self.pairs else None

    @property
    def mean_label_mass(self) -> float | None:
        return self._mass / self.pairs if self.pairs else None

    def figures(self) -> dict[str, object]:
        """For run.json. None where there was nothing to count."""
        counts = ("pairs", "ties", "gold_pairs", "gold_ties", "agreements", "low_mass")
        shares = ("agreement", "agreement_interval", "position_bias", "prefers_first")
        means = ("mean_gap", "mean_absolute_gap", "mean_label_mass")
        figures = {name: getattr(self, name) for name in (*counts, *shares, *means)}
        return figures | {"calibration": self.calibration.figures(), "length_bias": self.lengths.figures()}

    def lines(self) -> list[tuple[str, str]]:
        lines = []
        if self.agreement is not None:
            interval = interval_text(self.agreements, self.gold_pairs)
            text = f"{self.agreement:.1%} of {count(self.gold_pairs, 'pair')} ({interval})"
            if self.gold_ties:
                text += f"; {count(self.gold_ties, 'tie')} counted half"
            lines.append(("agreement with gold", text))
        lines += self.calibration.lines()
        if self.position_bias is not None:
            kept = f"{count(self.kept, 'pair')} of {self.pairs:,}"
            text = f"{self.position_bias:.1%}: {kept} prefer the same position in both orders"
            if self.kept:
                text += f" ({self.kept_first:,} the first, {self.kept_second:,} the second)"
            lines.append(("position bias", text))
            lines.append(("position gap", f"mean {self.mean_gap:+.3f}, mean size {self.mean_absolute_gap:.3f}"))
            text = f"mean {self.mean_label_mass:.3f}"
            if self.low_mass:
                text += f"; {count(self.low_mass, 'pair')} under {LOW_MASS} in an order"
            lines.append(("label mass", text))
        lines += self.lengths.lines()
        if self.ties:
            lines.append(("ties", count(self.ties, "pair")))
        return lines
