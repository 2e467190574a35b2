"""What a row's answers are about, as a number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b

from preftree.labeling.data.column import Column
from preftree.labeling.types import Pair, Rejected, Response, ResponseSet, Sample


def digest_of(item: Sample | Rejected, columns: Sequence[Column] = ()) -> int | None:
    """64 bits of a hash over id, prompt, responses and `columns`, of which the method makes what it asks.

    None for a bad row.
    """
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
    texts += [json.dumps(column.value(item.extra), ensure_ascii=False) for column in columns]
    data = "\0".join(texts)
    if data.count("\0") >= len(texts):  # in a text, too: lengths tell where each ends
        data = f"\0\0{list(map(len, texts))}{data}"
    hashed = blake2b(data.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(hashed.digest(), "little", signed=True)
