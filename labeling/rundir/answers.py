"""What the model answered about a row, as text and back: every float comes back with the same bits."""

from __future__ import annotations

import json
from collections.abc import Sequence

from labeling.labels.rationales import Rationale
from labeling.types import Answer, RequestScores


def packed(scores: Sequence[RequestScores]) -> str:
    """Compact JSON. Floats are written with as many digits as tell them apart from all others."""
    return _ENCODER.encode(
        [(one.prompt_tokens, [(a.logprob, a.label_mass, _written(a.rationale)) for a in one.answers]) for one in scores]
    )


def unpacked(text: str | bytes) -> list[RequestScores]:
    """The scores that were `packed`."""
    return [
        RequestScores(
            tuple(Answer(tuple(logprob), mass, written and Rationale(*written)) for logprob, mass, written in answers),
            prompt_tokens,
        )
        for prompt_tokens, answers in json.loads(text)
    ]


def _written(rationale: Rationale | None) -> tuple[str, int, bool] | None:
    return None if rationale is None else (rationale.text, rationale.tokens, rationale.cut)


_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)
