"""The rows of a run, cut into shards: many more than workers, so that a slow or lost worker costs little."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from preftree.labeling.runs.asking import Row
from preftree.labeling.types import Prompt, Rejected, Response, ResponseSet, Sample

# At most so many rows, or characters of text: a shard is in memory where it is cut and where it is judged.
MOST_ROWS = 2048
_MOST_TEXT = 8 << 20
_FEWEST_ROWS = 16
# A shard is this share of what each worker has left, so that the last ones are short and all workers end together.
_OF_THE_REST = 6


class Shard(NamedTuple):
    """Rows that one worker judges.

    Attributes:
        rows: in the order of the input.
        failures: how often a worker died or broke while it judged them.
    """

    rows: tuple[Row, ...]
    failures: int = 0

    def halves(self) -> tuple[Shard, Shard]:
        """Of two or more rows: each is given one more try before it is cut again."""
        middle = len(self.rows) // 2
        return Shard(self.rows[:middle], 1), Shard(self.rows[middle:], 1)


def shards_of(rows: Iterable[Row], total: int, workers: int) -> Iterator[Shard]:
    """Cuts where the prompt changes, as rows of one prompt share its tokens; within a prompt only if it has very many.

    total: how many rows there are, for the size of shards.
    """
    found: list[Row] = []
    left, text, prompt = total, 0, None
    size = _size(left, workers)
    for row in rows:
        own = row.item if isinstance(row.item, Rejected) else row.item.prompt
        is_full = len(found) >= size or text >= _MOST_TEXT
        if found and is_full and (own != prompt or len(found) >= 2 * size):
            yield Shard(tuple(found))
            left, found, text = left - len(found), [], 0
            size = _size(left, workers)
        found.append(row)
        text += _characters(row.item)
        prompt = own
    if found:
        yield Shard(tuple(found))


def _size(left: int, workers: int) -> int:
    return min(max(left // (_OF_THE_REST * workers), _FEWEST_ROWS), MOST_ROWS)


def _characters(item: Sample | Rejected) -> int:
    if isinstance(item, Rejected):
        return 0
    if isinstance(item, Prompt):
        responses: tuple[str, ...] = ()
    elif isinstance(item, ResponseSet):
        responses = tuple(item.responses)
    else:
        responses = (item.response,) if isinstance(item, Response) else (item.response_a, item.response_b)
    return sum(map(len, responses)) + sum(len(message.content) for message in item.prompt)
