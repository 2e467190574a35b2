"""What a row's answers are about, as a number."""

from __future__ import annotations

from hashlib import blake2b

from preftree.labeling.types import Pair, Rejected, Response, ResponseSet, Sample


def digest_of(item: Sample | Rejected) -> int | None:
    """64 bits of a hash over id, prompt and responses, of which the method makes what it asks; None for a bad row."""
    if isinstance(item, Rejected):
        return None
    texts = [item.id]
    for message in item.prompt:
        texts += message
    if isinstance(item, Pair):
        texts += (item.response_a, item.response_b)
    elif isinstance(item, Response):
        texts.append(item.response)
    elif isinstance(item, ResponseSet):
        texts += item.responses
    # Lengths tell where a text ends.
    data = f"{list(map(len, texts))}{''.join(texts)}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little", signed=True)
