"""What a row's answers are about, as a number."""

from __future__ import annotations

from hashlib import blake2b
from itertools import chain

from preftree.labeling.types import Pair, Rejected, Response, Sample


def digest_of(item: Sample | Rejected) -> int | None:
    """64 bits of a hash over id, prompt and responses, of which the method makes what it asks; None for a bad row."""
    if isinstance(item, Rejected):
        return None
    if isinstance(item, Pair):
        responses: tuple[str, ...] = (item.response_a, item.response_b)
    else:
        responses = (item.response,) if isinstance(item, Response) else tuple(item.responses)
    everything = chain((item.id,), chain.from_iterable(item.prompt), responses)
    texts = [text.encode("utf-8", "surrogatepass") for text in everything]
    found = blake2b(b",".join(b"%d" % len(text) for text in texts), digest_size=8)
    for text in texts:
        found.update(text)
    return int.from_bytes(found.digest(), "little", signed=True)
