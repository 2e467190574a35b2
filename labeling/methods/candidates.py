"""No label but responses: what a policy answers to a prompt, drawn several times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from preftree.engine.errors import InputError
from preftree.engine.generation import Sampling
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import ArrowType, Prompt, RationaleRequest, RequestScores, Sample, ScoreRequest

SAMPLE = "sample"


@dataclass(frozen=True)
class Responses:
    """What was drawn for a prompt.

    Attributes:
        texts: of each candidate.
        prompt_tokens: of the prompt.
    """

    texts: tuple[str, ...]
    prompt_tokens: int

    def values(self) -> dict[str, Any]:
        """As the columns of a row that can be labelled."""
        if len(self.texts) == 2:
            return dict(zip(("response_a", "response_b"), self.texts, strict=True))
        return {"response": self.texts[0]} if len(self.texts) == 1 else {"responses": list(self.texts)}


@dataclass(frozen=True)
class Candidates:
    """Asks for nothing but what a rationale is to other methods.

    sampling: how many responses are drawn, and how.
    """

    sampling: Sampling

    name: ClassVar[str] = SAMPLE
    takes: ClassVar[tuple[type[Sample], ...]] = (Prompt,)
    columns: ClassVar[Mapping[str, ArrowType]] = {}

    def requests(self, sample: Sample) -> tuple[ScoreRequest]:
        """The conversation, as far as it goes."""
        *history, last = sample.prompt
        written = RationaleRequest("", tuple(self.sampling.stop), self.sampling)
        return (ScoreRequest(last.content, "", (), rationale=written, history=tuple(history)),)

    def aggregate(self, sample: Sample, scores: Sequence[RequestScores]) -> Responses:
        """Raises InputError for a blank response, which nothing could label."""
        (drawn,) = scores
        for number, written in enumerate(drawn.rationales, start=1):
            if not written.text.strip():
                raise InputError(f"blank response: candidate {number} ended after {written.tokens:,} tokens")
        return Responses(tuple(written.text for written in drawn.rationales), drawn.prompt_tokens)

    def answers(self, values: Mapping[str, Any]) -> list[str]:
        """None of its own."""
        return []

    def rationales(self, values: Mapping[str, Any]) -> list[tuple[Rationale, ...]]:
        """None beside the responses."""
        return []

    def record(self) -> dict[str, Any]:
        """Options say it all."""
        return {}
