"""The answers about one row, and the Arrow table that holds those of many: a line for each answer.

Floats keep their bits. A rejected row is one line with its reason; so is a row without requests, whose reason is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise, repeat
from operator import itemgetter
from typing import Any, NamedTuple

from preftree.labeling.data.label_table import arrow_type
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import Answer, ArrowType, RequestScores

_COLUMNS: dict[str, ArrowType] = {
    "row": "int64",
    "id": "string",
    "text": "int64",
    "reason": "string",
    "request": "int32",
    "answer": "int32",
    "logprobs": ["double"],
    "label_mass": "double",
    "prompt_tokens": "int64",
    "rationale": "string",
    "rationale_tokens": "int64",
    "rationale_cut": "bool",
    "rationale_ids": ["int32"],
}
_IDS = "rationale_ids"  # only in parts with rationales, and not in those of earlier versions
_UNWRITTEN = (None,) * 4
_PROMPT_TOKENS = list(_COLUMNS).index("prompt_tokens")
_REQUEST = list(_COLUMNS).index("request")
_NOTHING = (None,) * (len(_COLUMNS) - _REQUEST)

Line = tuple[Any, ...]


class Entry(NamedTuple):
    """A finished row.

    Attributes:
        number: its place in the input, from 0.
        id: None where the row could not even be read so far.
        reason: why it was rejected; None where it was answered.
        scores: of its requests, in their order; () where it was rejected.
        text: digest of what was judged, see `preftree.labeling.answers.digest`; None where nothing could be read.
    """

    number: int
    id: str | None
    reason: str | None = None
    scores: Sequence[RequestScores] = ()
    text: int | None = None


def lines_schema() -> Any:
    """Of a table of lines, whichever version wrote it (pyarrow)."""
    import pyarrow as pa

    return pa.schema([(name, arrow_type(spec)) for name, spec in _COLUMNS.items()])


def table_of(entries: Iterable[Entry]) -> Any:
    """A pyarrow.Table. entries: in the order of their numbers, which is that of the lines."""
    import pyarrow as pa

    columns = list(zip(*(line for entry in entries for line in _lines(entry)), strict=True))
    schema = lines_schema()
    table = pa.table([pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema)
    return table.drop_columns(_IDS) if table[_IDS].null_count == len(table) else table


def entries_of(batches: Iterable[Any]) -> Iterator[Entry]:
    """The entries in record batches of such a table; a row may begin in one batch and end in another."""
    lines = (line for batch in batches for line in _tuples(batch))
    for number, group in groupby(lines, itemgetter(0)):
        mine = list(group)
        _, identity, text, reason, request, *_ = mine[0]
        yield Entry(number, identity, reason, () if request is None else tuple(_scores(mine)), text)


def _lines(entry: Entry) -> Iterator[Line]:
    number, identity, reason, scores, text = entry
    if not scores:
        yield number, identity, text, reason, *_NOTHING
    for request, (answers, prompt_tokens) in enumerate(scores):
        for place, (logprob, mass, written) in enumerate(answers):
            rationale = _UNWRITTEN if written is None else (written.text, written.tokens, written.cut, written.ids)
            yield number, identity, text, None, request, place, logprob, mass, prompt_tokens, *rationale


def _scores(lines: Sequence[Line]) -> Iterator[RequestScores]:
    for _, group in groupby(lines, itemgetter(_REQUEST)):
        mine = list(group)
        answers = [
            Answer(logprob, mass, None if text is None else Rationale(text, tokens, cut, ids))
            for *_, logprob, mass, _, text, tokens, cut, ids in mine
        ]
        yield RequestScores(tuple(answers), mine[0][_PROMPT_TOKENS])


def _tuples(batch: Any) -> Iterator[Line]:
    there = set(batch.schema.names)
    columns = [_values(batch.column(name)) if name in there else repeat(None, len(batch)) for name in _COLUMNS]
    return zip(*columns, strict=True)


def _values(array: Any) -> Iterable[Any]:
    """Python's values of a column; lists as tuples, cut out of all numbers at once, which is several times faster."""
    import pyarrow as pa

    if array.null_count == len(array):
        return [None] * len(array)
    if not pa.types.is_list(array.type):
        return array.to_pylist()
    ends = array.offsets.to_pylist()
    numbers = array.values.to_pylist()
    lists = [tuple(numbers[start:end]) for start, end in pairwise(ends)]
    if not array.null_count:
        return lists
    return [one if valid else None for one, valid in zip(lists, array.is_valid().to_pylist(), strict=True)]
