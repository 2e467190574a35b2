"""A score for each response by a rubric: one prompt a criterion, which comes last and is answered by yes or no.

What is computed for prompt and response serves every criterion.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.engine.errors import InputError, UsageError
from preftree.engine.generation import Sampling
from preftree.labeling.methods.probability import mean_probability
from preftree.labeling.methods.rubric_labels import CriterionScore, RubricLabel, RubricScore
from preftree.labeling.options.methods import RubricOptions
from preftree.labeling.prompts.catalogue import DEFAULT_PREAMBLE, Template, chosen_template
from preftree.labeling.rationales import Rationale, recorded_rationales
from preftree.labeling.rubrics.row_rubrics import RowRubrics, chosen_rubrics
from preftree.labeling.rubrics.rubric import Criterion, Rubric
from preftree.labeling.types import ArrowType, Pair, RequestScores, Response, Sample, ScoreRequest


@dataclass(frozen=True)
class ByRubric:
    """The judge sees one response and one criterion, and answers with yes or no.

    Attributes:
        template: one that shows one response and, as its principle, a criterion; its labels are yes and no.
        rubrics: of each row.
        preamble: which of the template's preambles.
        exemplars: how many of its exemplars.
        reasoning: how the judge explains before it answers; probabilities after several rationales are averaged.
    """

    template: Template
    rubrics: RowRubrics
    preamble: str = DEFAULT_PREAMBLE
    exemplars: int = 0
    reasoning: Sampling | None = None

    name: ClassVar[str] = "rubric"
    takes: ClassVar[tuple[type[Sample], ...]] = (Response, Pair)

    @property
    def columns(self) -> Mapping[str, ArrowType]:
        return self.filled(self.takes)

    def filled(self, kinds: Collection[type[Sample]]) -> Mapping[str, ArrowType]:
        """See `preftree.labeling.methods.base.FillsSome`."""
        return RubricLabel.columns(self.reasoning.n if self.reasoning else 0, kinds)

    def requests(self, sample: Sample) -> list[ScoreRequest]:
        """A response under every criterion; of a pair, all of A and then all of B."""
        criteria = self.rubrics.of(sample).criteria
        return [
            self.template.request(
                sample.prompt,
                response,
                preamble=self.preamble,
                row=sample.extra,
                exemplars=self.exemplars,
                principle=criterion.text,
                principle_name=criterion.name,
                title=f"{criterion.name}{which}",
                reasoning=self.reasoning,
            )
            for which, response in _shown(sample).items()
            for criterion in criteria
        ]

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> RubricLabel:
        """Raises InputError when a score is not finite."""
        rubric = self.rubrics.of(sample)
        size = len(rubric.criteria)
        return RubricLabel(
            tuple(_score(rubric, scores[start : start + size]) for start in range(0, len(scores), size)),
            rubric.weighted,
            is_shared=self.rubrics.shared is not None,
            prompt_tokens=sum(one.prompt_tokens for one in scores),
        )

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """What came back for each request, from the columns of a labelled row."""
        return [f"yes with p {one['p_yes']:.6f}, label mass {one['label_mass']:.6f}" for one in _judged(values)]

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """What was written for each request, from the same."""
        return [recorded_rationales(one, "") for one in _judged(values)] if self.reasoning else []

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return {"template": self.template.record(), **self.rubrics.record()}


def _shown(sample: Sample) -> dict[str, str]:
    """Responses by what sets their prompts apart."""
    if isinstance(sample, Pair):
        return {", response A": sample.response_a, ", response B": sample.response_b}
    assert isinstance(sample, Response)
    return {"": sample.response}


def _score(rubric: Rubric, scores: Sequence[RequestScores]) -> RubricScore:
    """Of one response."""
    judged = tuple(map(_judgement, rubric.criteria, scores))
    score = rubric.score([one.p_yes for one in judged])
    return RubricScore(score, rubric.reward(score), judged)


def _judgement(criterion: Criterion, scores: RequestScores) -> CriterionScore:
    p_yes = mean_probability([yes - no for yes, no in (answer.finite() for answer in scores.answers)])
    return CriterionScore(criterion.name, criterion.weight, p_yes, scores.label_mass, scores.rationales)


def _judged(values: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Entries of criteria in the order of the requests."""
    return [one for end in ("", "_a", "_b") for one in values.get(f"criteria{end}") or ()]


def opened(options: RubricOptions, recorded: Mapping[str, Any] | None) -> ByRubric:
    """See `preftree.labeling.methods.registry.open_method`."""
    template = chosen_template(options, recorded, "rubric")
    if template.num_responses != 1:
        raise UsageError(f"template {template.name} compares two responses; method rubric scores one")
    if not template.shows_principle:
        raise InputError(
            f"template {template.name} never shows {{{{ principle }}}}, in which method rubric puts criteria"
        )
    if len(template.labels) != 2 or template.values is not None or template.invert:
        must = "'labels' must be two, yes and no in this order, without 'values' and 'invert'"
        raise template.error("labels", f"{must}, for method rubric")
    rubrics = chosen_rubrics(options) if recorded is None else RowRubrics.recorded(recorded)
    return ByRubric(template, rubrics, options.preamble, options.exemplars, options.sampling)
