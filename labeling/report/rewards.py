"""How many responses have a reward above 0: the harmless rate, where the scale is one of harmlessness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from preftree.labeling.report.arrays import Floats, known
from preftree.labeling.report.intervals import interval_text, wilson_interval
from preftree.labeling.terminal import count


@dataclass
class RewardRate:
    """Running figures over the rewards of single responses, or of one response of each pair.

    A reward is the score from -1 to 1, where 1 is the preferred end, also of a scale with `invert`. Above 0 is thus the
    preferred half of the scale; its exact middle does not count. With labels such as "harmful" and "harmless" and
    `values: [0, 1]`, those are the responses that the judge finds harmless rather than harmful.

    Attributes:
        responses: with a reward.
        above: those whose reward is above 0.
    """

    responses: int = 0
    above: int = 0

    def add(self, reward: Floats) -> None:
        """NaN is not counted."""
        self.responses += int(np.count_nonzero(known(reward)))
        self.above += int(np.count_nonzero(reward > 0))

    def figures(self) -> dict[str, Any] | None:
        """For run.json; None where there are no rewards."""
        if not self.responses:
            return None
        return {
            "responses": self.responses,
            "share": self.above / self.responses,
            "interval": wilson_interval(self.above, self.responses),
        }

    def lines(self, which: str = "") -> list[tuple[str, str]]:
        """For a terminal: one line; none where there are no rewards. which: "A: " or "B: " of pairs."""
        if not self.responses:
            return []
        share, interval = self.above / self.responses, interval_text(self.above, self.responses)
        return [("reward above 0", f"{which}{share:.1%} of {count(self.responses, 'response')} ({interval})")]
