"""Texts that begin alike are tokenised once: what a text shares with an earlier one keeps that one's ids.

Parts of a text that stood elsewhere in an earlier one, as responses do when their order changes, are looked up.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from preftree.engine.tokenizer.cuts import Encode, first_cut

# Characters between two marks, at which a later text can start: at most so many and a word are encoded again.
STRIDE = 48
# Texts of a place: one more than the last, as prompts may change between A first and B first.
REMEMBERED = 2
MAX_REMEMBERED_CHARACTERS = 1_000_000
MAX_PLACES = 32
# Parts of texts and their ids: those of a few pairs, since the second order of a pair comes after the first.
MAX_PARTS, MAX_PART_CHARACTERS = 1024, 4 * STRIDE


@dataclass(frozen=True)
class _Encoded:
    """A text and its ids. marks: 0, the cuts, the end. counts: how many ids the text before each mark has."""

    text: str
    ids: list[int]
    marks: list[int]
    counts: list[int]


_NOTHING = _Encoded("", [], [0], [0])


class SharedText:
    """Encodes texts and remembers the last ones of each place.

    Threads may share it: a remembered text is never changed, only replaced, and any of them is right to start from.
    """

    def __init__(self, behind_cut: Encode | None, forbidden: frozenset[int]) -> None:
        """behind_cut: encodes what follows a cut; None where texts must stay whole. forbidden: ids no text may have."""
        self._behind_cut = behind_cut
        self._forbidden = forbidden
        self._recent: dict[int, tuple[_Encoded, ...]] = {}
        self._parts: dict[str, list[int]] = {}  # behind cuts

    def encode(self, place: int, text: str, whole: Encode) -> list[int] | None:
        """What `whole(text)` gives, not to be changed; None if a forbidden id is in it.

        place: number of the text in its prompt. Texts of one place are remembered together and have the same `whole`.
        """
        recent = self._recent.get(place, (_NOTHING,))
        for earlier in recent:
            if text == earlier.text:
                return earlier.ids
        start = self._start(text, recent)
        ids, marks, counts = start.ids, start.marks, start.counts
        for mark in self._next_marks(text, marks[-1]):
            part = text[marks[-1] : mark]
            added = self._part(part, self._behind_cut) if self._behind_cut and marks[-1] else whole(part)
            if not self._forbidden.isdisjoint(added):
                return None
            ids += added
            marks.append(mark)
            counts.append(len(ids))
        if len(text) <= MAX_REMEMBERED_CHARACTERS and place < MAX_PLACES:
            self._recent[place] = (start, *recent)[:REMEMBERED]
        return ids

    def _part(self, part: str, encode: Encode) -> list[int]:
        """`encode(part)`, not to be changed."""
        ids = self._parts.get(part)
        if ids is None:
            ids = encode(part)
            if len(part) <= MAX_PART_CHARACTERS:
                if len(self._parts) >= MAX_PARTS:
                    self._parts.clear()
                self._parts[part] = ids
        return ids

    def _start(self, text: str, recent: tuple[_Encoded, ...]) -> _Encoded:
        """Ids and marks of what `text` shares with one of `recent`, up to a mark. The lists are new."""
        if self._behind_cut is None:
            return _Encoded(text, [], [0], [0])
        shared, earlier = max(
            ((_common_prefix(earlier.text, text), earlier) for earlier in recent), key=lambda found: found[0]
        )
        kept = max(1, bisect_right(earlier.marks, shared - 2))  # a cut is a space and the letters around it
        counts = earlier.counts[:kept]
        return _Encoded(text, earlier.ids[: counts[-1]], earlier.marks[:kept], counts)

    def _next_marks(self, text: str, begin: int) -> Iterator[int]:
        """Where to cut `text` behind `begin`, and its end.

        There is a cut after each line break, so that the parts of a line do not depend on what stands before it.
        """
        if self._behind_cut is not None:
            while (cut := first_cut(text, begin + STRIDE)) is not None:
                line = text.find("\n", begin, cut)
                begin = cut if line < 0 else first_cut(text, line) or cut
                yield begin
        yield len(text)


def _common_prefix(one: str, other: str) -> int:
    """How many leading characters both texts share."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.startswith(other[low:middle], low):
            low = middle
        else:
            high = middle - 1
    return low
