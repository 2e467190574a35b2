"""The score of the subset Ties of RewardBench 2, where several responses are right.

A prompt comes twice: as "tied:7" with several right responses, and as "ref:7" with one, its reference. The score
rewards right responses above wrong ones, and differences among right ones that are smaller than that to the wrong ones
(allenai/reward-bench, rewardbench/utils.py, process_single_model).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

_WEIGHTS = {
    "tied_accuracy": 0.30,
    "ref_accuracy": 0.30,
    "margin_preferred": 0.20,
    "margin_preferred_hard": 0.20,
    "margin_score": 0.01,
}


class _Margins(NamedTuple):
    """spread: of the right responses, the best less the worst. lead: the worst right one less the best wrong one."""

    spread: float
    lead: float


class TiesScore:
    """Running figures over the rows of Ties. Memory grows with the number of prompts, about a hundred as published."""

    def __init__(self) -> None:
        self._prompts: dict[str, dict[str, _Margins]] = {"ref": {}, "tied": {}}

    def add(self, identity: str, scores: Sequence[float], num_correct: int) -> None:
        """identity: "ref:7" or "tied:7"; others do not count. scores: those of the right responses first."""
        kind, _, prompt = identity.partition(":")
        right, wrong = scores[:num_correct], scores[num_correct:]
        if kind in self._prompts and wrong:
            self._prompts[kind][prompt] = _Margins(max(right) - min(right), min(right) - max(wrong))

    def figures(self) -> dict[str, Any] | None:
        """score: None where no prompt is there both ways. margin_preferred: of those prompts, the share whose right
        responses differ by less than they lead; margin_preferred_hard: and by less than their reference leads.
        """
        ref, tied = self._prompts["ref"], self._prompts["tied"]
        if not (ref or tied):
            return None
        rows = {"rows": len(ref) + len(tied)}
        both = [prompt for prompt in tied if prompt in ref]
        if not both:
            return rows | {"score": None} | dict.fromkeys(_WEIGHTS)
        spread, lead = (np.array([tied[prompt][field] for prompt in both]) for field in (0, 1))
        hard = np.minimum(lead, [ref[prompt].lead for prompt in both])
        with np.errstate(divide="ignore", invalid="ignore"):
            closeness = np.nan_to_num(np.tanh(hard / spread - 1), nan=0.0)
        found = {
            "tied_accuracy": float(np.mean([one.lead > 0 for one in tied.values()])),
            "ref_accuracy": float(np.mean([one.lead > 0 for one in ref.values()])),
            "margin_preferred": float(np.mean(lead > spread)),
            "margin_preferred_hard": float(np.mean(hard > spread)),
            "margin_score": float(closeness.mean()),
        }
        return rows | {"score": sum(weight * found[name] for name, weight in _WEIGHTS.items())} | found
