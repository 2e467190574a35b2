"""How scores of single responses are spread, and how often they agree with gold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from preftree.labeling.report.agreement import Agreement
from preftree.labeling.report.arrays import NONE, TIE, Choices, Floats, choices, column, known, numbers, sizes
from preftree.labeling.report.pairs import LOW_MASS, gold_of
from preftree.labeling.report.spread import Spread
from preftree.labeling.terminal import count

ENDS = ("", "_a", "_b")  # of columns: of a single response, of the first and of the second of a pair
FIELDS = ("score", "reward", "entropy", "label_mass")


class ScoreFigures:
    """Running figures over scored responses; a pair has two.

    The standard deviation is that of the responses at hand (divided by their number). Scores that tie against a gold
    that does not count as half an agreement.
    """

    def __init__(self) -> None:
        self.low_mass = self.pairs = self.ties = self._num_values = 0
        self.gold = Agreement()
        self._scores = Spread(1)
        self._sums = dict.fromkeys(("entropy", "label_mass"), 0.0)
        self._counts = dict.fromkeys(("entropy", "label_mass"), 0)

    def add(self, batch: Any) -> None:
        """The rows of a record batch with the columns of labels.parquet."""
        for end in ENDS:
            self.add_scores(batch, end)
        verdict = _verdict(batch)
        self.pairs += int(np.count_nonzero(verdict != NONE))
        self.ties += int(np.count_nonzero(verdict == TIE))
        if (gold := gold_of(batch)) is not None:
            self.gold.add(verdict[verdict != NONE], gold[verdict != NONE])

    def add_scores(self, batch: Any, end: str = "") -> None:
        """One score a row of a record batch; rows without one are left out."""
        found = column(batch, f"score{end}")
        if found is None:
            return
        score = numbers(found, f"score{end}")
        there = known(score)
        self._scores.add(score[there][:, None])
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
        return counts | self._means() | self.gold.figures()

    def histograms(self) -> dict[str, dict[str, list[Any]]]:
        """There are no probabilities."""
        return {}

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
            lines.append(("score", f"{spread}, of {count(self.responses, 'response')}"))
        if means["mean_entropy"] is not None:
            text = f"mean {means['mean_entropy']:.3f} nats"
            if most := self._num_values:
                text += f"; {math.log(most):.3f} where all {most} are equally probable"
            lines.append(("entropy", text))
        if means["mean_label_mass"] is not None:
            low = f"; {count(self.low_mass, 'response')} under {LOW_MASS}" if self.low_mass else ""
            lines.append(("label mass", f"mean {means['mean_label_mass']:.3f}{low}"))
        if self.ties:
            lines.append(("ties", count(self.ties, "pair")))
        return lines

    def briefly(self) -> list[str]:
        """The figures on one line; none where there are no responses."""
        if not self.responses:
            return []
        means = self._means()
        text = f"mean score {means['mean_score']:.3f}, standard deviation {means['std_score']:.3f}"
        if means["mean_label_mass"] is not None:
            text += f", label mass {means['mean_label_mass']:.3f}"
        return [f"{count(self.responses, 'response')}: {text}"]


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
