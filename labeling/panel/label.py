"""The label of a panel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.labeling.types import ArrowType, Verdict, verdict_at


@dataclass(frozen=True)
class JudgeVote:
    """What one judge says of a pair.

    Attributes:
        judge: its name.
        p_a: probability that A is better.
        p_a_calibrated: the same, calibrated on gold; None where it was not.
    """

    judge: str
    p_a: float
    p_a_calibrated: float | None

    FIELDS: ClassVar[Mapping[str, ArrowType]] = {"judge": "string", "p_a": "double", "p_a_calibrated": "double"}


@dataclass(frozen=True)
class PanelLabel:
    """A pair's label by several judges.

    Attributes:
        p_a: probability that A is better, see `preftree.labeling.panel.mixture.Mixture`.
        disagreement: of the judges, in bits from 0 to 1; see there.
        votes: of each judge.
        prompt_tokens: of all judges' prompts.
    """

    p_a: float
    disagreement: float
    votes: tuple[JudgeVote, ...]
    prompt_tokens: int

    COLUMNS: ClassVar[Mapping[str, ArrowType]] = {
        "p_a": "double",
        "verdict": "string",
        "disagreement": "double",
        "judges": [dict(JudgeVote.FIELDS)],
    }

    def values(self) -> dict[str, Any]:
        """By column."""
        return {
            "p_a": self.p_a,
            "verdict": self.verdict,
            "disagreement": self.disagreement,
            "judges": [vars(vote) for vote in self.votes],
        }

    @property
    def verdict(self) -> Verdict:
        """The binarised label."""
        return verdict_at(self.p_a)
