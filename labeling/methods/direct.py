"""A score for each response on its own (direct RLAIF, Lee et al. 2023): one prompt a response, nothing to swap."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from preftree.engine.errors import UsageError
from preftree.engine.generation import Sampling
from preftree.labeling.methods.scale import Scale, scale_of, scaled
from preftree.labeling.methods.score_labels import ENDS, DirectLabel
from preftree.labeling.options.methods import DirectOptions
from preftree.labeling.prompts.catalogue import DEFAULT_PREAMBLE, Template, chosen_template
from preftree.labeling.rationales import Rationale, recorded_rationales
from preftree.labeling.types import ArrowType, Pair, RequestScores, Response, Sample, ScoreRequest


@dataclass(frozen=True)
class Direct:
    """The judge sees one response and answers with a label that stands for a number.

    template: one that shows one response. preamble: which of its preambles. exemplars: how many of its exemplars.
    reasoning: how the judge explains before it answers; the distributions behind several rationales are averaged.
    """

    template: Template
    preamble: str = DEFAULT_PREAMBLE
    exemplars: int = 0
    reasoning: Sampling | None = None

    name: ClassVar[str] = "direct"
    takes: ClassVar[tuple[type[Sample], ...]] = (Response, Pair)

    def __post_init__(self) -> None:
        """InputError, with file and line, for labels that stand for no numbers."""
        _ = self.scale

    @property
    def columns(self) -> Mapping[str, ArrowType]:
        return self.filled(self.takes)

    def filled(self, kinds: Collection[type[Sample]]) -> Mapping[str, ArrowType]:
        """See `preftree.labeling.methods.base.FillsSome`."""
        return DirectLabel.filled(kinds, self.reasoning.n if self.reasoning else 0)

    @cached_property
    def scale(self) -> Scale:
        return scale_of(self.template)

    def requests(self, sample: Sample) -> tuple[ScoreRequest, ...]:
        """One for the response; of a pair A, then B."""
        assert isinstance(sample, Response | Pair)
        if isinstance(sample, Response):
            shown = [("the response", sample.response)]
        else:
            shown = [("response A", sample.response_a), ("response B", sample.response_b)]
        return tuple(
            self.template.request(
                sample.prompt,
                response,
                preamble=self.preamble,
                row=sample.extra,
                exemplars=self.exemplars,
                title=title,
                reasoning=self.reasoning,
            )
            for title, response in shown
        )

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> DirectLabel:
        """Raises InputError when a score is not finite."""
        return DirectLabel(
            tuple(self.scale.score(one) for one in scores),
            sum(one.prompt_tokens for one in scores),
        )

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """What came back for each request, from the columns of a labelled row."""
        return [self._answer({name: values[f"{name}{end}"] for name in _ANSWER}) for end in _ends(values)]

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """What was written for each request, from the same."""
        return [recorded_rationales(values, end) for end in _ends(values)] if self.reasoning else []

    def record(self) -> dict[str, Any]:
        """For run.json. values: what the labels stand for, in the order of the distribution."""
        return {
            "template": self.template.record(),
            "values": list(self.scale.values),
        }

    def _answer(self, values: Mapping[str, Any]) -> str:
        figures = f"reward {values['reward']:+.6f}, mode {values['mode']:g}, entropy {values['entropy']:.6f}"
        return f"score {values['score']:.6f}, {figures}, label mass {values['label_mass']:.6f}"


_ANSWER = ("score", "reward", "mode", "entropy", "label_mass")


def _ends(values: Mapping[str, Any]) -> tuple[str, ...]:
    return ENDS[:1] if values.get("score") is not None else ENDS[1:]


def opened(options: DirectOptions, recorded: Mapping[str, Any] | None) -> Direct:
    """See `preftree.labeling.methods.registry.open_method`."""
    template = chosen_template(options, recorded, "direct")
    if template.num_responses != 1:
        raise UsageError(f"template {template.name} compares two responses; method direct scores one")
    if template.shows_principle:
        raise UsageError(f"template {template.name} shows a principle; method direct has none")
    template = scaled(template, options.scale, options.exemplars)
    return Direct(template, options.preamble, options.exemplars, options.sampling)
