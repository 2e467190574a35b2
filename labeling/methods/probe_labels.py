"""The label of a probed pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.labeling.types import ArrowType, PairLabel


@dataclass(frozen=True)
class ProbeOutcome:
    """What a probe does to a label.

    Attributes:
        probe: its name.
        kind: its kind.
        response: "a" or "b", the response that it was done to; None where it was done to the prompt.
        p_before: probability that this response is better (A where there is none), as the pair is.
        p_after: the same with the probe.
        label_mass: probability of any label at all with the probe, the smaller of both orders.
    """

    probe: str
    kind: str
    response: str | None
    p_before: float
    p_after: float
    label_mass: float

    FIELDS: ClassVar[Mapping[str, ArrowType]] = {
        "probe": "string",
        "kind": "string",
        "response": "string",
        "p_before": "double",
        "p_after": "double",
        "label_mass": "double",
    }


@dataclass(frozen=True)
class ProbeLabel:
    """Attributes:
    pair: the label of the pair as it is.
    outcomes: of each probe.
    prompt_tokens: of all prompts.
    """

    pair: PairLabel
    outcomes: tuple[ProbeOutcome, ...]
    prompt_tokens: int

    COLUMNS: ClassVar[Mapping[str, ArrowType]] = {**PairLabel.COLUMNS, "probes": [dict(ProbeOutcome.FIELDS)]}

    def values(self) -> dict[str, Any]:
        """By column."""
        return {**self.pair.values(), "probes": [vars(one) for one in self.outcomes]}
