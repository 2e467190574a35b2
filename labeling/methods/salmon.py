"""One score for each principle (SALMON, Sun et al. 2023): every principle judges every pair in both orders."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from preftree.engine.errors import UsageError
from preftree.engine.generation import Sampling
from preftree.labeling.methods.principle_labels import AGGREGATES, BY_ONE, SCALED, PrincipleScore, SalmonLabel, scaled
from preftree.labeling.methods.probability import mean_log_odds
from preftree.labeling.methods.rlaif import ENDS
from preftree.labeling.methods.spread import Spread
from preftree.labeling.options.methods import SalmonOptions
from preftree.labeling.principles.principle import Principle
from preftree.labeling.principles.sets import LABELLED, load_principles
from preftree.labeling.prompts.catalogue import DEFAULT_PREAMBLE, Template, chosen_template
from preftree.labeling.rationales import Rationale, rationale_columns, recorded_rationales
from preftree.labeling.types import ArrowType, Label, Pair, RequestScores, Sample, ScoreRequest

ORDERS = ("A first", "B first")


@dataclass(frozen=True)
class Salmon:
    """The judge is asked about one principle at a time, by its positive statement.

    principles: one or more, with different names and a weight above 0 among them. rule: one of those in
    `labeling.methods.principle_labels`. principle_set: what principles are called, for run.json. preamble, exemplars,
    reasoning: see `preftree.labeling.methods.rlaif.Rlaif`. variances: of scores by principle, for the rule "scaled";
    none until the rows are known, see `with_figures`.
    """

    template: Template
    principles: tuple[Principle, ...]
    rule: str = "strongest"
    principle_set: str = LABELLED
    preamble: str = DEFAULT_PREAMBLE
    exemplars: int = 0
    reasoning: Sampling | None = None
    variances: Mapping[str, float] | None = None

    name: ClassVar[str] = "salmon"
    takes: ClassVar[tuple[type[Sample], ...]] = (Pair,)

    @property
    def columns(self) -> Mapping[str, ArrowType]:
        rationales = rationale_columns(self.reasoning.n, ENDS) if self.reasoning else {}
        return {**SalmonLabel.COLUMNS, "principles": [{**PrincipleScore.FIELDS, **rationales}]}

    def filled(self, kinds: Collection[type[Sample]]) -> Mapping[str, ArrowType]:
        """See `preftree.labeling.methods.base.FillsSome`: by some rules no single principle decides."""
        return {name: kind for name, kind in self.columns.items() if name != "decided_by" or self.rule in BY_ONE}

    def requests(self, sample: Sample) -> list[ScoreRequest]:
        """All principles with A shown first, then all with B shown first."""
        assert isinstance(sample, Pair)
        a, b = sample.response_a, sample.response_b
        return [
            self.template.request(
                sample.prompt,
                *responses,
                preamble=self.preamble,
                row=sample.extra,
                exemplars=self.exemplars,
                principle=principle.positive,
                principle_name=principle.name,
                title=f"{principle.name}, {order}",
                reasoning=self.reasoning,
            )
            for order, responses in zip(ORDERS, ((a, b), (b, a)), strict=True)
            for principle in self.principles
        ]

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> SalmonLabel:
        """Raises InputError when a score is not finite."""
        count = len(self.principles)
        judged = tuple(
            PrincipleScore(
                name=principle.name,
                s12=self._first_over_second(a_first),
                s21=self._second_over_first(b_first),
                label_mass_first=a_first.label_mass,
                label_mass_second=b_first.label_mass,
                rationales_first=a_first.rationales,
                rationales_second=b_first.rationales,
            )
            for principle, a_first, b_first in zip(self.principles, scores[:count], scores[count:], strict=True)
        )
        counts = [
            (principle, score) for principle, score in zip(self.principles, judged, strict=True) if principle.weight
        ]
        decide = AGGREGATES[self.rule] if self.variances is None else partial(scaled, variances=self.variances)
        return SalmonLabel(
            aggregate=decide([principle for principle, _ in counts], [score.counted for _, score in counts]),
            principles=judged,
            prompt_tokens=sum(score.prompt_tokens for score in scores),
        )

    def with_figures(self, labels: Iterable[Label]) -> Salmon:
        """See `preftree.labeling.methods.base.NeedsFigures`. Other rules than "scaled" do not look at the labels."""
        if self.rule != SCALED:
            return self
        spread = Spread(principle.name for principle in self.principles)
        for label in labels:
            assert isinstance(label, SalmonLabel)
            for score in label.principles:
                spread.add(score.name, score.s12, score.s21)
        return replace(self, variances=spread.variances())

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """What came back for each request, from the columns of a labelled row."""
        return [
            f"score of A {judged[score]:+.6f} nats, label mass {judged[f'label_mass{end}']:.6f}"
            for score, end in zip(("s12", "s21"), ENDS, strict=True)
            for judged in values["principles"]
        ]

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """What was written for each request, from the same."""
        if not self.reasoning:
            return []
        return [recorded_rationales(judged, end) for end in ENDS for judged in values["principles"]]

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "template": self.template.record(),
            "principle_set": self.principle_set,
            "principles": [principle.record() for principle in self.principles],
            "aggregate": self.rule,
        }

    def _first_over_second(self, scores: RequestScores) -> float:
        """log P(first label) - log P(second label) for the response shown first being better, in nats."""
        labels = [answer.finite() for answer in scores.answers]
        return mean_log_odds([b - a if self.template.invert else a - b for a, b in labels])

    def _second_over_first(self, scores: RequestScores) -> float:
        """The other way round, subtracted and not negated: 0 has no sign then, and an exchange flips every bit."""
        labels = [answer.finite() for answer in scores.answers]
        return mean_log_odds([a - b if self.template.invert else b - a for a, b in labels])


def opened(options: SalmonOptions, recorded: Mapping[str, Any] | None) -> Salmon:
    """See `preftree.labeling.methods.registry.open_method`."""
    template = chosen_template(options, recorded, "salmon")
    if template.num_responses != 2:
        raise UsageError(f"template {template.name} shows one response; method salmon compares two")
    if not template.shows_principle:
        raise UsageError(f"template {template.name} never shows {{{{ principle }}}}, by which method salmon judges")
    chosen = options.principles or LABELLED
    principles = load_principles(chosen) if recorded is None else _recorded(recorded)
    asked = (options.preamble, options.exemplars, options.sampling)
    return Salmon(template, principles, options.aggregate, chosen, *asked)


def _recorded(record: Mapping[str, Any]) -> tuple[Principle, ...]:
    return tuple(Principle.recorded(entry) for entry in record["principles"])
