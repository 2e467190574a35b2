"""The rows of several runs side by side: the same rows of the same texts, or a refusal that names the first other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.answers.digest import digest_of
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.panel.judge import Judge
from preftree.labeling.terminal import one_line
from preftree.labeling.types import Rejected, Sample

_END = object()
_WAY_OUT = "a panel is made of runs over the same rows, in the same order"

Rows = Iterator[tuple[Sample | Rejected, tuple[dict[str, Any], ...]]]


def rows_of_all(judges: Sequence[Judge], dataset: Dataset, moved_to: str | None) -> Rows:
    """Each row of the input with what every judge's labels say of it.

    Args:
        judges: of the panel.
        dataset: the input of the first.
        moved_to: where the inputs are now, if they were moved.

    Raises:
        InputError: runs are of different rows; the message names the first row that differs.
    """
    first = judges[0]
    streams: list[Iterator[Any]] = [judge.rows() for judge in judges]
    # A file that was read in the same way has the same text under an id; of another file, texts are compared.
    others = [None if first.reads_like(judge) else judge.items(judge.input(moved_to)) for judge in judges]
    walked = zip_longest(first.items(dataset), *streams, fillvalue=_END)
    for number, (item, *found) in enumerate(walked, 1):
        for judge, row, texts in zip(judges, found, others, strict=True):
            if item is _END or row is _END:
                ending = first if item is _END else judge
                raise InputError(f"{ending.place} ends before row {number:,}, and another run does not; {_WAY_OUT}")
            if row["id"] != item.id:
                mine, theirs = (one_line(str(one)) for one in (item.id, row["id"]))
                raise InputError(f"row {number:,} is {mine} in {first.place} and {theirs} in {judge.place}; {_WAY_OUT}")
            if texts is not None and digest_of(next(texts, item)) != digest_of(item):
                named = one_line(str(item.id))
                raise InputError(
                    f"row {number:,}, {named}, has another text in {judge.place} than in {first.place}; {_WAY_OUT}"
                )
        yield item, tuple(found)
