"""What a row's answers are about, as a number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any

from preftree.labeling.data.column import Column
from preftree.labeling.data.plain import PlainRows
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
    hashed = _hashed(data.encode("utf-8", "surrogatepass"))
    return int.from_bytes(hashed, "little", signed=True)


def joined_texts(rows: PlainRows) -> Any:
    """What is hashed of each row: a pyarrow array of strings."""
    import pyarrow as pa
    from pyarrow import compute

    role = pa.scalar("user", pa.string())
    return compute.binary_join_element_wise(rows.ids, role, rows.prompt, *rows.responses, pa.scalar("\0", pa.string()))


def digests_of(joined: Any, texts: int) -> tuple[Any, Any]:
    """`digest_of` of many rows, and where it is known: NumPy arrays of int64 and bool.

    joined: `joined_texts` of the rows. texts: how many each row has.
    """
    import numpy as np
    import pyarrow as pa
    from pyarrow import compute

    known = np.ones(len(joined), np.bool_)
    _, offsets, buffer = joined.buffers()
    ends = np.frombuffer(offsets, np.int32)[joined.offset : joined.offset + len(joined) + 1].tolist()
    data = memoryview(buffer or b"")
    if np.count_nonzero(np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] == 0) != len(joined) * (texts - 1):
        known = compute.equal(compute.count_substring(joined, "\0"), pa.scalar(texts - 1, pa.int32())).to_numpy(False)
    hashed = [_hashed(data[start:end]) for start, end in pairwise(ends)]
    return np.frombuffer(b"".join(hashed), "<i8"), known


def _hashed(data: bytes | memoryview) -> bytes:
    return blake2b(data, digest_size=8).digest()
