"""How scores of single responses are spread, how many are good, how often they agree with gold, and which win."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from preftree.labeling.report.agreement import Agreement
from preftree.labeling.report.arrays import NONE, TIE, Choices, Floats, choices, column, known, numbers, sizes
from preftree.labeling.report.findings import LOW_MASS
from preftree.labeling.report.pairs import gold_of, pair_chars
from preftree.labeling.report.rewards import RewardRate
from preftree.labeling.report.spread import Spread
from preftree.labeling.report.win_rate import WinRate
from preftree.labeling.terminal import count

ENDS = ("", "_a", "_b")  # of columns: of a single response, of the first and of the second of a pair
FIELDS = ("score", "reward", "entropy", "label_mass")
ABOVE = "reward_above_0"  # the figure; of pairs with an end


class ScoreFigures:
    """Running figures over scored responses; a pair has two.

    The standard deviation is that of the responses at hand (divided by their number). Scores that tie against a gold
    that does not count as half an agreement.
    """

    def __init__(self) -> None:
        self.low_mass = self.pairs = self.ties = self._num_values = 0
        self.gold = Agreement()
        self._noun = "score"
        self.win_rate = WinRate()
        self.rewards = {end: RewardRate() for end in ENDS}
        self._scores = Spread(1)
        self._sums = dict.fromkeys(("entropy", "label_mass"), 0.0)
        self._counts = dict.fromkeys(("entropy", "label_mass"), 0)

    def add(self, batch: Any) -> None:
        """The rows of a record batch with the columns of labels.parquet."""
        for end in ENDS:
            self.add_scores(batch, end)
        verdict, gold, chars = _verdict(batch), gold_of(batch), pair_chars(batch)
        there = verdict != NONE
        verdict = verdict[there]
        self.pairs += len(verdict)
        self.ties += int(np.count_nonzero(verdict == TIE))
        self.win_rate.add(verdict, None, None if chars is None else chars[there])
        if gold is not None:
            self.gold.add(verdict, gold[there])

    def add_scores(self, batch: Any, end: str = "") -> None:
        """One score a row of a record batch, or the reward of a reward model; rows without one are left out."""
        found = column(batch, f"score{end}")
        if found is None and (found := column(batch, f"reward{end}")) is not None:
            self._noun = "reward"
        if found is None:
            return
        score = numbers(found, f"{self._noun}{end}")
        there = known(score)
        self._scores.add(score[there][:, None])
        if self._noun == "score" and (rewards := column(batch, f"reward{end}")) is not None:
            self.rewards[end].add(numbers(rewards, f"reward{end}"))
        for name in self._sums:
            if (array := column(batch, f"{name}{end}")) is not None:
                values = numbers(array, f"{name}{end}")[there]
                self._sums[name] += float(np.nansum(values))
                self._counts[name] += int(np.count_nonzero(known(values)))
                if name == "label_mass":
                    self.low_mass += int(np.count_nonzero(values < LOW_MASS))
        if (distribution := column(batch, f"distribution{end}")) is not None and len(batch):
            self._num_values = max(self._num_values, int(sizes(distribution).max()))

    @property
    def responses(self) -> int:
        return self._scores.count

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""
        counts = {name: getattr(self, name) for name in ("responses", "low_mass", "pairs", "ties")}
        rewards = {f"{ABOVE}{end}": one.figures() for end, one in self.rewards.items()}
        return counts | self._means() | self.gold.figures() | rewards | {"win_rate": self.win_rate.figures()}

    def _means(self) -> dict[str, float | None]:
        if not self.responses:
            return dict.fromkeys(("mean_score", "std_score", "mean_entropy", "mean_label_mass"))
        return {
            "mean_score": float(self._scores.mean[0]),
            "std_score": math.sqrt(float(self._scores.products[0, 0]) / self.responses),
        } | {f"mean_{name}": self._sums[name] / number if number else None for name, number in self._counts.items()}

    def lines(self) -> list[tuple[str, str]]:
        """For a terminal: name and text; figures that have nothing to stand on are left out."""
        lines, means = self.gold.lines(), self._means()
        if self.responses:
            spread = f"mean {means['mean_score']:.3f}, standard deviation {means['std_score']:.3f}"
            lines.append((self._noun, f"{spread}, of {count(self.responses, 'response')}"))
        for end, rate in self.rewards.items():
            lines += rate.lines(f"{end[1:].upper()}: " if end else "")
        if means["mean_entropy"] is not None:
            text = f"mean {means['mean_entropy']:.3f} nats"
            if most := self._num_values:
                text += f"; {math.log(most):.3f} where all {most} are equally probable"
            lines.append(("entropy", text))
        if means["mean_label_mass"] is not None:
            low = f"; {count(self.low_mass, 'response')} under {LOW_MASS}" if self.low_mass else ""
            lines.append(("label mass", f"mean {means['mean_label_mass']:.3f}{low}"))
        lines += self.win_rate.lines()
        if self.ties:
            lines.append(("ties", count(self.ties, "pair")))
        return lines

    def briefly(self) -> list[str]:
        """The figures on one line; none where there are no responses."""
        if not self.responses:
            return []
        means = self._means()
        texts = [f"mean {self._noun} {means['mean_score']:.3f}", f"standard deviation {means['std_score']:.3f}"]
        if means["mean_label_mass"] is not None:
            texts.append(f"label mass {means['mean_label_mass']:.3f}")
        return [f"{count(self.responses, 'response')}: {', '.join(texts + self.win_rate.briefly())}"]


def _verdict(batch: Any) -> Choices:
    """That of the column; else the response with the higher reward, or score."""
    if (verdicts := column(batch, "verdict")) is not None:
        return choices(verdicts)
    name = "reward" if column(batch, "reward_a") is not None else "score"
    both: list[Floats] = []
    for end in ENDS[1:]:
        array = column(batch, f"{name}{end}")
        both.append(np.full(len(batch), np.nan) if array is None else numbers(array, f"{name}{end}"))
    difference = np.sign(both[0] - both[1])
    return np.where(np.isnan(difference), NONE, np.nan_to_num(difference)).astype(np.int8)
