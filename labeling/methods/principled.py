"""Scores under sets of principles, as a principle-following reward model is used (SALMON, Sun et al. 2023).

The principles of a set are shown together and last: what is computed for prompt and responses serves every set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.engine.errors import InputError, UsageError
from preftree.labeling.methods.direct import Direct
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.methods.scale import scaled
from preftree.labeling.methods.set_labels import PrincipledLabel
from preftree.labeling.options.methods import PrincipledOptions
from preftree.labeling.principles.set_draw import SetDraw
from preftree.labeling.principles.sets import GUARDS, PrincipleSet, common_set, load_principles, principle_sets
from preftree.labeling.prompts.catalogue import Template, chosen_template
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import ArrowType, Pair, RequestScores, Response, Sample, ScoreRequest


@dataclass(frozen=True)
class Principled:
    """Sets of principles are the same for all rows, or each row has one that is drawn for it.

    Attributes:
        pair: how a pair is compared under a set; None where pairs are not taken.
        single: how a response is scored; None where responses are not taken. One of both is there.
        sets: one or more, with different names; none where they are drawn.
        draw: of the set of each row.
    """

    pair: Rlaif | None
    single: Direct | None
    sets: tuple[PrincipleSet, ...]
    draw: SetDraw | None = None

    name: ClassVar[str] = "principled"

    @property
    def columns(self) -> Mapping[str, ArrowType]:
        return PrincipledLabel.DRAWN_COLUMNS if self.draw else PrincipledLabel.COLUMNS

    @property
    def takes(self) -> tuple[type[Sample], ...]:
        kinds: tuple[tuple[Any, type[Sample]], ...] = ((self.single, Response), (self.pair, Pair))
        return tuple(kind for method, kind in kinds if method)

    def requests(self, sample: Sample) -> list[ScoreRequest]:
        """A response under every set; of a pair, all sets with A shown first, then all with B shown first."""
        method, orders = self._shown(sample)
        sets = (self.draw.set_of(sample),) if self.draw else self.sets
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
            for chosen in sets
        ]

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> PrincipledLabel:
        """Raises InputError when a score is not finite."""
        method, _ = self._shown(sample)
        names = (self.draw.name,) if self.draw else tuple(chosen.name for chosen in self.sets)
        labels = [method.aggregate(sample, scores[index :: len(names)]) for index in range(len(names))]
        drawn = tuple(principle.name for principle in self.draw.drawn(sample)) if self.draw else None
        return PrincipledLabel(names, tuple(labels), drawn)

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """What came back for each request, from the columns of a labelled row."""
        by_set = [self._method(is_pair=one["p_a"] is not None).answers(one) for one in values["sets"]]
        return [answer for order in zip(*by_set, strict=True) for answer in order]

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """The judge is not to explain."""
        return []

    def record(self) -> dict[str, Any]:
        """For run.json. pair, single: None where such rows are not taken. draw: only where sets are drawn."""
        record = {
            "pair": self.pair and self.pair.record(),
            "single": self.single and self.single.record(),
            "sets": [{"name": chosen.name, "statements": list(chosen.statements)} for chosen in self.sets],
        }
        return record | ({"draw": self.draw.record()} if self.draw else {})

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
        *_sets(options, recorded),
    )


def _sets(
    options: PrincipledOptions, recorded: Mapping[str, Any] | None
) -> tuple[tuple[PrincipleSet, ...], SetDraw | None]:
    """Sets for all rows, or a draw of one for each."""
    if recorded is not None:
        draw = SetDraw.recorded(recorded["draw"]) if "draw" in recorded else None
        return tuple(PrincipleSet(one["name"], tuple(one["statements"])) for one in recorded["sets"]), draw
    if options.draw is None:
        return principle_sets(_members(options), options.principles), None
    assert options.principles is not None
    common = common_set(_common(options), options.principles)
    pool = tuple(
        principle
        for principle in load_principles(options.principles)
        if not {principle.positive, principle.negative} & {*common.statements}
    )
    boosts = {tag: float(weight) for tag, _, weight in (boost.rpartition("=") for boost in options.boost)}
    if len(boosts) < len(options.boost):
        raise UsageError("--boost names a tag twice; give each tag one weight")
    return (), SetDraw(pool, options.draw, options.draw_seed, common, boosts, options.tag_column)


def _members(options: PrincipledOptions) -> list[tuple[str, ...]]:
    """Of each set; one that names nothing is all principles of a file."""
    return [(*members, *_common(options)) for members in options.under or [()]]


def _common(options: PrincipledOptions) -> tuple[str, ...]:
    """Members of every set."""
    return (*options.add_principle, *(GUARDS if options.guard else ()))


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
