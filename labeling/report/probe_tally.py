"""What one probe did to the labels of all pairs."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from preftree.labeling.report.arrays import Floats
from preftree.labeling.report.intervals import Z_95, share, wilson_interval

MOVED = 0.05
WORST = 3


class Worst(NamedTuple):
    """An outcome that moved far.

    Attributes:
        size: how far.
        id: of the pair.
        response: that was probed; None for the prompt.
        before: its probability, as the pair is.
        after: the same with the probe.
    """

    size: float
    id: str
    response: str | None
    before: float
    after: float

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return {"id": self.id, "response": self.response, "p_before": self.before, "p_after": self.after}


class ProbeTally:
    """Running figures. A probe of a response has two outcomes a pair, one of the prompt has one.

    Outcomes of a pair depend on each other, so intervals count pairs: those of shares are Wilson's with as many trials
    as there are pairs, that of the mean shift is from the variance between pairs. Of the two responses of a pair one
    has lost, so how often that one wins with the probe is a share of pairs already.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.pairs = self.outcomes = self.lost = self.won = 0
        self.moved = self.flipped = 0
        self._shift = self._squares = self._size = 0.0
        self._worst: list[tuple[float, int, Worst]] = []

    def add(self, rows: Any, before: Floats, after: Floats, names: tuple[Sequence[str], Sequence[str | None]]) -> None:
        """Outcomes. rows: number of the pair of each. names: of each its pair's id, and the response."""
        shift = after - before
        _, places = np.unique(rows, return_inverse=True)
        means = np.bincount(places, shift) / np.maximum(np.bincount(places), 1)
        self.pairs += len(means)
        self.outcomes += len(shift)
        self._shift += float(means.sum())
        self._squares += float((means**2).sum())
        self._size += float(abs(shift).sum())
        self.moved += int(np.count_nonzero(abs(shift) > MOVED))
        self.flipped += int(np.count_nonzero((before - 0.5) * (after - 0.5) < 0))
        ids, responses = names
        lost = (before < 0.5) & np.array([response is not None for response in responses])
        self.lost += int(np.count_nonzero(lost))
        self.won += int(np.count_nonzero(lost & (after > 0.5)))
        size = shift if any(responses) else abs(shift)
        for place in np.argsort(-size, kind="stable")[:WORST].tolist():
            one = Worst(float(size[place]), ids[place], responses[place], float(before[place]), float(after[place]))
            heapq.heappush(self._worst, (one.size, -self.outcomes - place, one))
        self._worst = heapq.nlargest(WORST, self._worst)

    @property
    def worst(self) -> list[Worst]:
        """The outcomes that moved furthest, towards the probed response where there is one."""
        return [one for *_, one in sorted(self._worst, key=lambda entry: entry[:2], reverse=True) if one.size > 0]

    @property
    def mean_shift(self) -> float | None:
        return share(self._shift, self.pairs)

    @property
    def shift_interval(self) -> tuple[float, float] | None:
        """95%, normal; None for fewer than two pairs."""
        if self.pairs < 2:
            return None
        mean = self._shift / self.pairs
        variance = max(0.0, self._squares - self.pairs * mean**2) / (self.pairs - 1)
        half = Z_95 * math.sqrt(variance / self.pairs)
        return mean - half, mean + half

    def of_pairs(self, outcomes: int) -> tuple[float, tuple[float, float]]:
        """The share of so many outcomes, and its interval over pairs."""
        found = outcomes / self.outcomes
        return found, wilson_interval(found * self.pairs, self.pairs)

    def figures(self) -> dict[str, Any]:
        """For run.json. None where there was nothing to count."""
        moved, flipped = self.of_pairs(self.moved), self.of_pairs(self.flipped)
        return {
            "kind": self.kind,
            "pairs": self.pairs,
            "outcomes": self.outcomes,
            "mean_shift": self.mean_shift,
            "mean_shift_interval": self.shift_interval,
            "mean_absolute_shift": share(self._size, self.outcomes),
            "moved": moved[0],
            "moved_interval": moved[1],
            "flipped": flipped[0],
            "flipped_interval": flipped[1],
            "lost": self.lost,
            "won": self.won,
            "won_share": share(self.won, self.lost),
            "won_interval": wilson_interval(self.won, self.lost) if self.lost else None,
            "worst": [one.record() for one in self.worst],
        }
