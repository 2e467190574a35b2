"""Method rlaif of a pair as it is and under every probe: one method made of several, which share their prefix."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from preftree.engine.errors import UsageError
from preftree.labeling.methods.probe_labels import ProbeLabel, ProbeOutcome
from preftree.labeling.methods.rlaif import Rlaif
from preftree.labeling.options.methods import ProbeOptions
from preftree.labeling.probing.catalogue import chosen_probes
from preftree.labeling.probing.probe import LABELS, ORDER, Probe
from preftree.labeling.probing.relabelling import closing_of, relabelled
from preftree.labeling.prompts.catalogue import chosen_template
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import ArrowType, Pair, RequestScores, Sample, ScoreRequest

_LOGGER = logging.getLogger("preftree")


@dataclass(frozen=True)
class Probed:
    """Asks about the pair, then about each variant of it. A probe of a response is done to A, then to B.

    Attributes:
        judge: how a pair is judged.
        probes: those that the judge's template permits.
    """

    judge: Rlaif
    probes: tuple[Probe, ...]

    name: ClassVar[str] = "probe"
    takes: ClassVar[tuple[type[Sample], ...]] = (Pair,)
    columns: ClassVar[Mapping[str, ArrowType]] = ProbeLabel.COLUMNS

    @property
    def beginnings(self) -> int:
        """See `preftree.labeling.methods.base.HasBeginnings`: other labels are named in the instructions."""
        return 1 + len(self._relabelled)

    def requests(self, sample: Sample) -> list[ScoreRequest]:
        """Of each variant A shown first, then B shown first."""
        assert isinstance(sample, Pair)
        plain = self.judge.requests(sample)
        found = list(plain)
        for probe, side, judge in self._variants():
            asked = judge.requests(sample) if side is None else self._forged(sample, probe, side, plain[0].answer_start)
            to = "" if side is None else f" of {side.upper()}"
            found += [replace(one, title=f"{probe.name}{to}, {one.title}") for one in asked]
        return found

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> ProbeLabel:
        """The pair's label, and beside it what each probe made of it."""
        pair = self.judge.aggregate(sample, scores[:2])
        outcomes, place = [], 2
        if order := next((probe for probe in self.probes if probe.kind == ORDER), None):
            mass = min(pair.label_mass_first, pair.label_mass_second)
            outcomes.append(ProbeOutcome(order.name, ORDER, None, pair.p_a_first, pair.p_a_second, mass))
        for probe, side, judge in self._variants():
            after = judge.aggregate(sample, scores[place : place + 2])
            before, p = (1.0 - one.p_a if side == "b" else one.p_a for one in (pair, after))
            mass = min(after.label_mass_first, after.label_mass_second)
            outcomes.append(ProbeOutcome(probe.name, probe.kind, side, before, p, mass))
            place += 2
        return ProbeLabel(pair, tuple(outcomes), sum(one.prompt_tokens for one in scores))

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """What came back for the pair; of variants the columns hold both orders together."""
        return self.judge.answers(values)

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """None."""
        return []

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return {**self.judge.record(), "probes": [probe.record() for probe in self.probes]}

    def _variants(self) -> Iterator[tuple[Probe, str | None, Rlaif]]:
        """Probe, the response that it is done to, and how the variant is judged, in the order of their requests."""
        for probe in self.probes:
            if probe.kind == LABELS:
                yield probe, None, self._relabelled[probe.name]
            elif probe.kind != ORDER:
                yield probe, "a", self.judge
                yield probe, "b", self.judge

    def _forged(self, pair: Pair, probe: Probe, side: str, answer: str) -> tuple[ScoreRequest, ScoreRequest]:
        """With the probe done to one response, which wins with another label in each order."""
        template, name = self.judge.template, f"response_{side}"
        pairs = []
        for place in (0, 1) if side == "a" else (1, 0):
            label = template.labels[1 - place if template.invert else place].strip()
            forged = probe.forged(getattr(pair, name), label, self._closing, answer)
            changed: dict[str, Any] = {name: forged}
            pairs.append(pair._replace(**changed))
        return self.judge.requests(pairs[0])[0], self.judge.requests(pairs[1])[1]

    @cached_property
    def _closing(self) -> str:
        return closing_of(self.judge.template)

    @cached_property
    def _relabelled(self) -> dict[str, Rlaif]:
        found = {}
        for probe in self.probes:
            if probe.labels is not None and (other := relabelled(self.judge.template, probe.labels)):
                found[probe.name] = replace(self.judge, template=other)
        return found


def opened(options: ProbeOptions, recorded: Mapping[str, Any] | None) -> Probed:
    """See `preftree.labeling.methods.registry.open_method`."""
    template = chosen_template(options, recorded, "general")
    if template.num_responses != 2:
        raise UsageError(f"template {template.name} shows one response; probes are of pairs")
    judge = Rlaif(template, options.preamble, options.exemplars)
    if recorded is not None:
        return Probed(judge, tuple(Probe.recorded(one) for one in recorded["probes"]))
    chosen = chosen_probes(options.probes)
    apt = tuple(probe for probe in chosen if probe.labels is None or relabelled(template, probe.labels))
    for probe in chosen:
        if probe not in apt and set(probe.labels or ()) != {label.strip() for label in template.labels}:
            _LOGGER.warning(f"probe {probe.name} is left out: template {template.name} does not permit such labels")
    if not apt:
        raise UsageError(f"template {template.name} permits none of these probes; choose others with --probe")
    return Probed(judge, apt)
