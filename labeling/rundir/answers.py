"""What the model answered about a row, as text and back: every float comes back with the same bits."""

from __future__ import annotations

import json
from collections.abc import Sequence

from labeling.labels.rationales import Rationale
from labeling.types import Answer, RequestScores


def packed(scores: Sequence[RequestScores]) -> str:
    """Compact JSON. Floats are written with as many digits as tell them apart from all others."""
    return f"[{','.join(map(_request, scores))}]"


def _request(scores: RequestScores) -> str:
    """By hand: this runs for every row, and the standard encoder takes three times as long over so few numbers."""
    return f"[{scores.prompt_tokens},[{','.join(map(_answer, scores.answers))}]]"


def _answer(answer: Answer) -> str:
    written = "null" if answer.rationale is None else json.dumps(_written(answer.rationale))
    return f"[[{','.join(map(repr, answer.logprob))}],{answer.label_mass!r},{written}]"


def unpacked(text: str | bytes) -> list[RequestScores]:
    """The scores that were `packed`."""
    return [
        RequestScores(
            tuple(Answer(tuple(logprob), mass, written and Rationale(*written)) for logprob, mass, written in answers),
            prompt_tokens,
        )
        for prompt_tokens, answers in json.loads(text)
    ]


def _written(rationale: Rationale) -> tuple[str, int, bool]:
    return rationale.text, rationale.tokens, rationale.cut
