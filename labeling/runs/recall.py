"""What a journal remembers of an input's rows. Both are in one order, so they are walked side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from preftree.labeling.data.dataset import rejected
from preftree.labeling.pipeline import Item, Recalled
from preftree.labeling.runs.answers import unpacked
from preftree.labeling.runs.journal import Entry
from preftree.labeling.types import Rejected, Sample


class Recall:
    """damaged: rows met so far whose entries cannot be trusted, and which are asked about again."""

    def __init__(self, entries: Iterator[Entry], retry_rejects: bool = False) -> None:
        """retry_rejects: forget the rejection of rows that can be asked about."""
        self.damaged = 0
        self._entries = entries
        self._retry_rejects = retry_rejects

    def items(self, items: Iterable[Sample | Rejected], first: int = 0) -> Iterator[Item]:
        """`items`, numbered from `first`: those that were finished as `Recalled`, the others as they are.

        The number says where an entry would be; the id says whether it is the row's.
        """
        entry = next(self._entries, None)
        for number, item in enumerate(items, first):
            while entry is not None and entry.number < number:
                entry = next(self._entries, None)
            if entry is None or entry.number > number:
                yield item
            else:
                yield self._recalled(entry, item)

    def _recalled(self, entry: Entry, item: Sample | Rejected) -> Item:
        identity = None if item.id is None else item.id.encode()
        if not entry.is_whole or entry.id != identity:
            self.damaged += 1
            return item
        if isinstance(item, Rejected):
            return Recalled(item)
        if entry.answers is not None:
            return Recalled(item, unpacked(entry.answers))
        if self._retry_rejects or entry.reason is None:
            return item
        return Recalled(rejected(item, entry.reason.decode()))
