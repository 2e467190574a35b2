"""What the model answered about a row, as text and back: every float comes back with the same bits."""

from __future__ import annotations

import json
from collections.abc import Sequence

from labeling.types import RequestScores


def packed(scores: Sequence[RequestScores]) -> str:
    """Compact JSON. Floats are written with as many digits as tell them apart from all others."""
    return _ENCODER.encode([(one.logprob, one.label_mass, one.prompt_tokens) for one in scores])


def unpacked(text: str | bytes) -> list[RequestScores]:
    """The scores that were `packed`."""
    return [RequestScores(tuple(logprob), mass, tokens) for logprob, mass, tokens in json.loads(text)]


_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)
