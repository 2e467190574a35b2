"""Scores under sets of principles, as a principle-following reward model is used (SALMON, Sun et al. 2023).

The principles of a set are shown together and last: what is computed for prompt and responses serves every set.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.methods.direct import Direct
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.methods.scale import scaled
from preftree.labeling.methods.score_labels import SCORE_FIELDS
from preftree.labeling.methods.set_labels import SetsLabel, set_columns
from preftree.labeling.options.methods import PrincipledOptions
from preftree.labeling.principles.row_sets import RowSets, chosen_sets
from preftree.labeling.prompts.catalogue import Template, chosen_template
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import ArrowType, Pair, PairLabel, RequestScores, Response, Sample, ScoreRequest

# Of a pair those of a score are None, and the other way round.
_FIELDS: dict[str, ArrowType] = {**PairLabel.COLUMNS, **SCORE_FIELDS}


@dataclass(frozen=True)
class Principled:
    """A judge that is shown principles.

    Attributes:
        pair: how a pair is compared under a set; None where pairs are not taken.
        single: how a response is scored; None where responses are not taken. One of both is there.
        sets: of principles, one or more for each row.
    """

    pair: Rlaif | None
    single: Direct | None
    sets: RowSets

    name: ClassVar[str] = "principled"

    @property
    def columns(self) -> Mapping[str, ArrowType]:
        return self.filled(self.takes)

    def filled(self, kinds: Collection[type[Sample]]) -> Mapping[str, ArrowType]:
        """See `preftree.labeling.methods.base.FillsSome`."""
        of_kinds = ((Pair, PairLabel.COLUMNS), (Response, SCORE_FIELDS))
        fields = {name: spec for kind, fields in of_kinds if kind in kinds for name, spec in fields.items()}
        return set_columns(fields, are_drawn=self.sets.draw is not None)

    @property
    def takes(self) -> tuple[type[Sample], ...]:
        kinds: tuple[tuple[Any, type[Sample]], ...] = ((self.single, Response), (self.pair, Pair))
        return tuple(kind for method, kind in kinds if method)

    def requests(self, sample: Sample) -> list[ScoreRequest]:
        """A response under every set; of a pair, all sets with A shown first, then all with B shown first."""
        method, orders = self._shown(sample)
        return [
            method.template.request(
                sample.prompt,
                *responses,
                preamble=method.preamble,
                row=sample.extra,
                exemplars=method.exemplars,
                principle=chosen.text,
                principle_name=chosen.name,
                title=f"{chosen.name}{order}",
            )
            for order, responses in orders.items()
            for chosen in self.sets.of(sample)
        ]

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> SetsLabel:
        """Raises InputError when a score is not finite."""
        method, _ = self._shown(sample)
        names = self.sets.names
        labels = [method.aggregate(sample, scores[index :: len(names)]) for index in range(len(names))]
        return SetsLabel(names, tuple(labels), _FIELDS, self.sets.drawn(sample))

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """What came back for each request, from the columns of a labelled row."""
        by_set = [self._method(is_pair=one.get("p_a") is not None).answers(one) for one in values["sets"]]
        return [answer for order in zip(*by_set, strict=True) for answer in order]

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """The judge is not to explain."""
        return []

    def record(self) -> dict[str, Any]:
        """For run.json. pair, single: None where such rows are not taken."""
        return {
            "pair": self.pair and self.pair.record(),
            "single": self.single and self.single.record(),
            **self.sets.record(),
        }

    def _shown(self, sample: Sample) -> tuple[Rlaif | Direct, dict[str, tuple[str, ...]]]:
        """How to ask about a sample, and the responses to show by what sets their prompt apart."""
        method = self._method(isinstance(sample, Pair))
        if isinstance(sample, Pair):
            a, b = sample.response_a, sample.response_b
            return method, {", A first": (a, b), ", B first": (b, a)}
        assert isinstance(sample, Response)
        return method, {"": (sample.response,)}

    def _method(self, is_pair: bool) -> Rlaif | Direct:
        method = self.pair if is_pair else self.single
        assert method is not None
        return method


def opened(options: PrincipledOptions, recorded: Mapping[str, Any] | None) -> Principled:
    """See `labeling.methods.registry.open_method`. A template of one's own leaves rows of the other kind out."""
    pair, single = _templates(options, recorded)
    for template in (pair, single):
        if template and not template.shows_principle:
            raise InputError(f"template {template.name} never shows {{{{ principle }}}}, by which responses are scored")
    if single is None and options.scale is not None:
        raise UsageError(f"--scale is of single responses, and template {options.template} compares two")
    asked = (options.preamble, options.exemplars)
    return Principled(
        Rlaif(pair, *asked) if pair else None,
        Direct(scaled(single, options.scale, options.exemplars), *asked) if single else None,
        chosen_sets(options) if recorded is None else RowSets.recorded(recorded),
    )


def _templates(
    options: PrincipledOptions, recorded: Mapping[str, Any] | None
) -> tuple[Template | None, Template | None]:
    """Of pairs and of single responses."""
    if recorded is not None:
        pair, single = (
            recorded[kind] and chosen_template(options, recorded[kind], f"principled-{kind}")
            for kind in ("pair", "single")
        )
        return pair, single
    if options.template is None:
        return chosen_template(options, None, "principled-pair"), chosen_template(options, None, "principled-single")
    template = chosen_template(options, None, "")
    return (template, None) if template.num_responses == 2 else (None, template)
