"""Pairwise soft labels in both orders (RLAIF, Lee et al. 2023, section 2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.engine.errors import UsageError
from preftree.engine.generation import Sampling
from preftree.labeling.answers.arrays import AnswerArrays
from preftree.labeling.grid import all_on_grid, on_grid
from preftree.labeling.methods.probability import mean_probability, probabilities
from preftree.labeling.options.methods import RlaifOptions
from preftree.labeling.orders import orders_agree
from preftree.labeling.prompts.catalogue import DEFAULT_PREAMBLE, Template, chosen_template
from preftree.labeling.rationales import Rationale, rationale_columns, recorded_rationales
from preftree.labeling.types import ArrowType, Pair, PairLabel, RequestScores, Sample, ScoreRequest, verdicts_at

ENDS = ("_first", "_second")  # of columns, by the place where A is shown


@dataclass(frozen=True)
class Rlaif:
    """The judge sees the pair in both orders; the two distributions over the labels are averaged, not the logits.

    preamble: which of the template's preambles. exemplars: how many of its exemplars. reasoning: how the judge explains
    before it answers, each order on its own; the distributions behind several rationales are averaged.
    """

    template: Template
    preamble: str = DEFAULT_PREAMBLE
    exemplars: int = 0
    reasoning: Sampling | None = None

    name: ClassVar[str] = "rlaif"
    takes: ClassVar[tuple[type[Sample], ...]] = (Pair,)

    @property
    def columns(self) -> Mapping[str, ArrowType]:
        rationales = rationale_columns(self.reasoning.n, ENDS) if self.reasoning else {}
        return {**PairLabel.COLUMNS, **rationales}

    def requests(self, sample: Sample) -> tuple[ScoreRequest, ScoreRequest]:
        """A shown first, then B shown first."""
        assert isinstance(sample, Pair)

        def shown(first: str, second: str, title: str) -> ScoreRequest:
            return self.template.request(
                sample.prompt,
                first,
                second,
                preamble=self.preamble,
                row=sample.extra,
                exemplars=self.exemplars,
                title=title,
                reasoning=self.reasoning,
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
            rationales_first=a_first.rationales,
            rationales_second=b_first.rationales,
        )

    @property
    def answer_shape(self) -> tuple[int, int] | None:
        """See `preftree.labeling.methods.base.Columnar`."""
        return None if self.reasoning else (2, 2)

    def label_arrays(self, answers: AnswerArrays) -> dict[str, Any]:
        """`aggregate` of many samples: the columns of `PairLabel`."""
        preferred, other = self._places
        log_odds = answers.logprobs[:, :, preferred] - answers.logprobs[:, :, other]
        first_of_ab, first_of_ba = probabilities(log_odds).T
        p_a, p_a_second = 0.5 + all_on_grid((first_of_ab - first_of_ba) / 2), 1.0 - first_of_ba
        return {
            "p_a": p_a,
            "verdict": verdicts_at(p_a),
            "p_a_first": first_of_ab,
            "p_a_second": p_a_second,
            "position_gap": first_of_ab - p_a_second,
            "consistent": orders_agree(first_of_ab, p_a_second),
            "label_mass_first": answers.label_mass[:, 0],
            "label_mass_second": answers.label_mass[:, 1],
        }

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """What came back for each request, from the columns of a labelled row."""
        return [
            f"A is better with p {values[f'p_a{end}']:.6f}, label mass {values[f'label_mass{end}']:.6f}" for end in ENDS
        ]

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """What was written for each request, from the same."""
        return [recorded_rationales(values, end) for end in ENDS] if self.reasoning else []

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return {"template": self.template.record()}

    @property
    def _places(self) -> tuple[int, int]:
        """Among the labels, of the one that prefers the response shown first, and of the other."""
        return (1, 0) if self.template.invert else (0, 1)

    def _first_preferred(self, scores: RequestScores) -> float:
        """Probability that the response shown first is preferred: softmax over the two labels, mean of answers."""
        preferred, other = self._places
        logprobs = [answer.finite() for answer in scores.answers]
        return mean_probability([logprob[preferred] - logprob[other] for logprob in logprobs])


def opened(options: RlaifOptions, recorded: Mapping[str, Any] | None) -> Rlaif:
    """See `preftree.labeling.methods.registry.open_method`."""
    template = chosen_template(options, recorded, "general")
    if template.num_responses != 2:
        raise UsageError(f"template {template.name} shows one response; method rlaif compares two")
    return Rlaif(template, options.preamble, options.exemplars, options.sampling)
