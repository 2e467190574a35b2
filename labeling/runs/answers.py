"""What the model answered about a row, as bytes and back: every float comes back with the same bits.

Numbers are float64, little-endian: for each request the tokens of its prompt and how many answers it has; for each of
these how many label log-probabilities, these, and the label mass. Before them is how many there are, a uint32. Behind
them is a JSON list, for each answer its rationale or null, unless none has any.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from itertools import islice

from preftree.labeling.rationales import Rationale
from preftree.labeling.types import Answer, RequestScores

_COUNT = struct.Struct("<I")


def packed(scores: Sequence[RequestScores]) -> bytes:
    numbers: list[float] = []
    rationales = []
    for request in scores:
        numbers += (request.prompt_tokens, len(request.answers))
        for answer in request.answers:
            numbers += (len(answer.logprob), *answer.logprob, answer.label_mass)
            rationales.append(answer.rationale)
    data = struct.pack(f"<I{len(numbers)}d", len(numbers), *numbers)
    return data + _json(rationales) if any(rationales) else data


def unpacked(data: bytes) -> list[RequestScores]:
    """The scores that were `packed`."""
    [count] = _COUNT.unpack_from(data)
    numbers = iter(struct.unpack_from(f"<{count}d", data, _COUNT.size))
    texts = data[_COUNT.size + 8 * count :]
    written = iter(json.loads(texts) if texts else ())

    def answer() -> Answer:
        logprob = tuple(islice(numbers, int(next(numbers))))
        rationale = next(written, None)
        return Answer(logprob, next(numbers), rationale and Rationale(*rationale))

    return [
        RequestScores(tuple([answer() for _ in range(int(next(numbers)))]), int(prompt_tokens))
        for prompt_tokens in numbers
    ]


def _json(rationales: Sequence[Rationale | None]) -> bytes:
    return json.dumps([one and (one.text, one.tokens, one.cut) for one in rationales]).encode()
