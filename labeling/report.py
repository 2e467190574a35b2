"""What a run amounts to: agreement with gold, position bias, label mass; and the summary for a person."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from labeling.display import one_line
from labeling.types import PairLabel, Verdict

LOW_MASS = 0.5
_Z_95 = 1.959963984540054
_KINDS_KEPT = 50
_ROWS_SHOWN = 5


def wilson_interval(successes: float, trials: int) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927): sane near 0 and 1 and for few trials. trials must be above 0."""
    share, square = successes / trials, _Z_95**2
    scale = 1 + square / trials
    centre = (share + square / (2 * trials)) / scale
    half = _Z_95 * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass
class Quality:
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
    _gap: float = 0.0
    _absolute_gap: float = 0.0
    _mass: float = 0.0

    def add(self, label: PairLabel, gold: Verdict | None) -> None:
        self.pairs += 1
        tie = label.verdict == "tie"
        self.ties += tie
        if gold in ("a", "b"):
            self.gold_pairs += 1
            self.gold_ties += tie
            self.agreements += 0.5 if tie else float(label.verdict == gold)
        self.kept_first += label.p_a_first > 0.5 > label.p_a_second
        self.kept_second += label.p_a_first < 0.5 < label.p_a_second
        self._gap += label.position_gap
        self._absolute_gap += abs(label.position_gap)
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
        return {name: getattr(self, name) for name in (*counts, *shares, *means)}


@dataclass
class Rejections:
    """How many rows got no label, by kind of reason, and the first few word by word."""

    count: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    first: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, reason: str) -> None:
        self.count += 1
        kind = reason_kind(reason)
        if kind not in self.kinds and len(self.kinds) >= _KINDS_KEPT:
            kind = "other"
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if len(self.first) < _ROWS_SHOWN:
            self.first.append((line, reason))


def reason_kind(reason: str) -> str:
    """What reasons of one sort share: the part before the colon, with every number as N."""
    return re.sub(r"\d[\d,.]*", "N", reason.split(":", 1)[0])


@dataclass(frozen=True)
class RunSummary:
    """A finished run. Seconds are the engine's; a rate over them leaves out loading and reading.

    judge: model, device and number format, for people.
    """

    labels: Path
    run: Path
    judge: str
    quality: Quality
    rejections: Rejections
    prompt_tokens: int
    unique_tokens: int
    seconds: float

    @property
    def sharing(self) -> float | None:
        return self.prompt_tokens / self.unique_tokens if self.unique_tokens else None

    def totals(self) -> dict[str, object]:
        """For run.json."""
        return {
            "rows": self.quality.pairs + self.rejections.count,
            "ok": self.quality.pairs,
            "rejected": self.rejections.count,
            "rejected_by_reason": self.rejections.kinds,
            "prompt_tokens": self.prompt_tokens,
            "unique_tokens": self.unique_tokens,
            "sharing": self.sharing,
            "seconds": self.seconds,
            "prompt_tokens_per_second": self.rate(self.prompt_tokens),
            "unique_tokens_per_second": self.rate(self.unique_tokens),
        }

    def rate(self, tokens: int) -> float | None:
        return tokens / self.seconds if self.seconds > 0 else None


def render_summary(summary: RunSummary) -> str:
    """Lines for a terminal; figures that have no pairs to stand on are left out."""
    quality, rejections = summary.quality, summary.rejections
    labelled = count(quality.pairs, "pair") + " labelled"
    if rejections.count:
        labelled += f", {count(rejections.count, 'row')} rejected"
    lines = [("judge", one_line(summary.judge)), ("labels", labelled)]
    lines += _quality_lines(quality)
    if summary.sharing:
        tokens = f"{summary.prompt_tokens:,} in prompts, {summary.unique_tokens:,} unique"
        lines.append(("tokens", f"{tokens}: sharing {summary.sharing:.2f}x"))
    prompt_rate, unique_rate = summary.rate(summary.prompt_tokens), summary.rate(summary.unique_tokens)
    if prompt_rate and unique_rate:
        rates = f"{prompt_rate:,.0f} prompt tokens/s, {unique_rate:,.0f} unique tokens/s"
        lines.append(("speed", f"{rates} over {summary.seconds:,.1f} s in the engine"))
    lines += [("rejected", f"line {line}: {one_line(reason)}") for line, reason in rejections.first]
    if hidden := rejections.count - len(rejections.first):
        lines.append(("rejected", f"and {count(hidden, 'more row')}; every reason is in the labels"))
    lines += [("files", one_line(str(path))) for path in (summary.labels, summary.run)]
    return aligned(lines)


def _quality_lines(quality: Quality) -> list[tuple[str, str]]:
    lines = []
    if quality.agreement_interval and quality.agreement is not None:
        low, high = quality.agreement_interval
        interval = f"95% interval {low:.1%} to {high:.1%}"
        text = f"{quality.agreement:.1%} of {count(quality.gold_pairs, 'pair')} ({interval})"
        if quality.gold_ties:
            text += f"; {count(quality.gold_ties, 'tie')} counted half"
        lines.append(("agreement with gold", text))
    if quality.position_bias is not None:
        kept = f"{count(quality.kept, 'pair')} of {quality.pairs:,}"
        text = f"{quality.position_bias:.1%}: {kept} prefer the same position in both orders"
        if quality.kept:
            text += f" ({quality.kept_first:,} the first, {quality.kept_second:,} the second)"
        lines.append(("position bias", text))
        lines.append(("position gap", f"mean {quality.mean_gap:+.3f}, mean size {quality.mean_absolute_gap:.3f}"))
        text = f"mean {quality.mean_label_mass:.3f}"
        if quality.low_mass:
            text += f"; {count(quality.low_mass, 'pair')} under {LOW_MASS} in an order"
        lines.append(("label mass", text))
    if quality.ties:
        lines.append(("ties", count(quality.ties, "pair")))
    return lines


def count(number: int, noun: str) -> str:
    """ "1 pair", "2,000 pairs"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def aligned(lines: list[tuple[str, str]]) -> str:
    """Names in a column, what they name in the next; a repeated name is written once."""
    width = max(len(name) for name, _ in lines)
    names = [name if i == 0 or lines[i - 1][0] != name else "" for i, (name, _) in enumerate(lines)]
    return "\n".join(f"{name:<{width}}  {text}" for name, (_, text) in zip(names, lines, strict=True))
