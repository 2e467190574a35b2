"""Pairwise soft labels in both orders (RLAIF, Lee et al. 2023, section 2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from engine.errors import InputError
from labeling.labels.odds import on_grid, probability
from labeling.options import JudgeOptions
from labeling.prompts import DEFAULT_PREAMBLE, Template, chosen_template
from labeling.quality.pairs import PairQuality
from labeling.types import ArrowType, Pair, PairLabel, RequestScores, Sample, ScoreRequest


@dataclass(frozen=True)
class Rlaif:
    """The judge sees the pair in both orders; the two distributions over the labels are averaged, not the logits.

    preamble: which of the template's preambles. exemplars: how many of its exemplars.
    """

    template: Template
    preamble: str = DEFAULT_PREAMBLE
    exemplars: int = 0

    name: ClassVar[str] = "rlaif"
    takes: ClassVar[tuple[type[Sample], ...]] = (Pair,)
    columns: ClassVar[Mapping[str, ArrowType]] = PairLabel.COLUMNS

    def requests(self, sample: Sample) -> tuple[ScoreRequest, ScoreRequest]:
        """A shown first, then B shown first."""
        assert isinstance(sample, Pair)

        def shown(first: str, second: str, title: str) -> ScoreRequest:
            return self.template.request(
                sample.prompt, first, second, preamble=self.preamble, exemplars=self.exemplars, title=title
            )

        a, b = sample.response_a, sample.response_b
        return shown(a, b, "A first"), shown(b, a, "B first")

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> PairLabel:
        """P(A better) = (P(first | A, B) + P(second | B, A)) / 2, each renormalised over the two labels.

        Raises InputError when a score is not finite.
        """
        a_first, b_first = scores
        first_of_ab, first_of_ba = self._first_preferred(a_first), self._first_preferred(b_first)
        return PairLabel(
            p_a=0.5 + on_grid((first_of_ab - first_of_ba) / 2),
            p_a_first=first_of_ab,
            p_a_second=1.0 - first_of_ba,
            label_mass_first=a_first.label_mass,
            label_mass_second=b_first.label_mass,
            prompt_tokens=a_first.prompt_tokens + b_first.prompt_tokens,
        )

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """What came back for each request, from the columns of a labelled row."""
        return [
            f"A is better with p {values[f'p_a_{side}']:.6f}, label mass {values[f'label_mass_{side}']:.6f}"
            for side in ("first", "second")
        ]

    def quality(self) -> PairQuality:
        return PairQuality()

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return {"template": self.template.record()}

    def _first_preferred(self, scores: RequestScores) -> float:
        """Probability that the response shown first is preferred: a softmax over the two labels."""
        first, second = scores.finite()
        return probability(second - first if self.template.invert else first - second)


def opened(options: JudgeOptions, recorded: Mapping[str, Any] | None) -> Rlaif:
    """See `labeling.methods.registry.open_method`."""
    template = chosen_template(options.template, recorded, "general")
    if template.num_responses != 2:
        raise InputError(f"template {template.name} shows one response; method rlaif compares two")
    return Rlaif(template, options.preamble, options.exemplars)
