"""Pairwise soft labels in both orders (RLAIF, Lee et al. 2023, section 2.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import InputError
from labeling.prompts import DEFAULT_PREAMBLE, Template
from labeling.types import Pair, PairLabel, RequestScores, ScoreRequest

# Probabilities lie on a grid on which 1 - p is exact, so that swapping the responses flips a label bit for bit.
_GRID = 2.0**52


@dataclass(frozen=True)
class Rlaif:
    """The judge sees the pair in both orders; the two distributions over the labels are averaged, not the logits.

    preamble: which of the template's preambles. exemplars: how many of its exemplars.
    """

    template: Template
    preamble: str = DEFAULT_PREAMBLE
    exemplars: int = 0

    def requests(self, pair: Pair) -> tuple[ScoreRequest, ScoreRequest]:
        """A shown first, then B shown first."""

        def shown(first: str, second: str) -> ScoreRequest:
            return self.template.request(pair.prompt, first, second, preamble=self.preamble, exemplars=self.exemplars)

        return shown(pair.response_a, pair.response_b), shown(pair.response_b, pair.response_a)

    def aggregate(self, scores: Sequence[RequestScores]) -> PairLabel:
        """P(A better) = (P(first | A, B) + P(second | B, A)) / 2, each renormalised over the two labels.

        Raises InputError when a score is not finite.
        """
        a_first, b_first = scores
        first_of_ab, first_of_ba = self._first_preferred(a_first), self._first_preferred(b_first)
        return PairLabel(
            p_a=0.5 + _on_grid((first_of_ab - first_of_ba) / 2),
            p_a_first=first_of_ab,
            p_a_second=1.0 - first_of_ba,
            label_mass_first=a_first.label_mass,
            label_mass_second=b_first.label_mass,
            prompt_tokens=a_first.prompt_tokens + b_first.prompt_tokens,
        )

    def _first_preferred(self, scores: RequestScores) -> float:
        """Probability that the response shown first is preferred: a softmax over the two labels."""
        first, second = scores.logprob
        if not (math.isfinite(first) and math.isfinite(second)):
            raise InputError("the model's label log-probabilities are not finite")
        gap = second - first if self.template.invert else first - second
        odds = math.exp(-abs(gap))
        smaller = _on_grid(odds / (1.0 + odds))
        return 1.0 - smaller if gap > 0 else smaller


def _on_grid(value: float) -> float:
    return round(value * _GRID) / _GRID
