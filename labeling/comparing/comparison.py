"""The result of a comparison: every combination of every model, the best first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from preftree.labeling.comparing.combinations import Combination
from preftree.labeling.comparing.costs import Cost
from preftree.labeling.comparing.judged import Judged, in_common
from preftree.labeling.comparing.paired import Difference, difference, resampled, shares_of_best

AXES = ("model", "method", "template", "preamble", "exemplars", "principles")


@dataclass(frozen=True)
class Compared:
    """A combination of a model.

    Attributes:
        model: as it was named.
        combination: what it was asked with.
        judged: what it said, of the pairs that all have judged.
        figures: see `Judged.figures`.
        cost: of a thousand pairs.
        best_share: in what share of the resamples it agrees most.
        behind: the best combination less this one; None for the best.
    """

    model: str
    combination: Combination
    judged: Judged
    figures: Mapping[str, Any]
    cost: Cost
    best_share: float
    behind: Difference | None

    def axis(self, name: str) -> str:
        """Its value of one of `AXES`; "" where it has none."""
        if name == "model":
            return self.model
        value = self.combination.template if name == "template" else getattr(self.combination.choice, name)
        return "" if value is None else str(value)


@dataclass(frozen=True)
class Comparison:
    """Attributes:
    entries: the best first; of two that agree equally, the better calibrated one.
    prompt_tokens: of all that was run.
    unique_tokens: of them, those that went through a model.
    notes: what was not compared, a line each.
    failed: models that did not load.
    """

    entries: tuple[Compared, ...]
    prompt_tokens: int
    unique_tokens: int
    notes: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def pairs(self) -> int:
        return len(self.entries[0].judged.ids)

    @property
    def varied(self) -> tuple[str, ...]:
        """The axes whose value is not the same everywhere."""
        return tuple(name for name in AXES if len({one.axis(name) for one in self.entries}) > 1)

    @property
    def unsure(self) -> Iterator[Compared]:
        """Those that may be as good as the best: the interval of the difference has 0 in it."""
        return (one for one in self.entries if one.behind is not None and not one.behind.is_known)


Key = tuple[str, Combination]


def compared(found: Mapping[Key, Judged], costs: Mapping[Key, Cost], seed: int) -> tuple[Compared, ...]:
    """By model and combination. found: one or more, with a pair that all of them have judged."""
    shared = in_common(found)
    figures = {key: one.figures() for key, one in shared.items()}
    order = sorted(shared, key=lambda key: _rank(figures[key]))
    right = np.stack([shared[key].right for key in order], axis=1)
    resamples = resampled(right, seed)
    best_shares: Sequence[float] = shares_of_best(resamples).tolist()
    return tuple(
        Compared(
            key[0],
            key[1],
            shared[key],
            figures[key],
            costs[key],
            best_shares[place],
            difference(right, resamples, 0, place) if place else None,
        )
        for place, key in enumerate(order)
    )


def figures_of(one: Compared) -> dict[str, Any]:
    """All its figures by name. None where there was nothing to count."""
    figures, behind = one.figures, one.behind
    calibration = figures["calibration"] or {}
    low, high = figures["agreement_interval"]
    return {
        "pairs": figures["gold_pairs"],
        "agreement": figures["agreement"],
        "agreement_low": low,
        "agreement_high": high,
        "expected_calibration_error": calibration.get("expected_calibration_error"),
        "brier": calibration.get("brier"),
        **{name: figures[name] for name in ("position_bias", "prefers_first", "consistent", "mean_label_mass")},
        **{f"{name}_per_1000": value for name, value in one.cost._asdict().items()},
        "best_share": one.best_share,
        "behind": behind and behind.mean,
        "behind_low": behind and behind.low,
        "behind_high": behind and behind.high,
        "mcnemar_p": behind and behind.mcnemar_p,
        "pairs_needed": behind and behind.pairs_needed,
    }


def _rank(figures: Mapping[str, Any]) -> tuple[float, float]:
    calibration = figures["calibration"]
    return -figures["agreement"], calibration["brier"] if calibration else 1.0
