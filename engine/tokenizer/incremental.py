"""Texts that begin alike are tokenised once: what a text shares with an earlier one keeps that one's ids.

Parts of a text that stood elsewhere in an earlier one, as responses do when their order changes, are looked up. Parts
that are new are encoded together for all texts that are at hand, which the libraries do in several threads.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from preftree.engine.tokenizer.cuts import first_cut
from preftree.engine.tokenizer.encoder import Encode, encoded_together

# Characters between two marks, at which a later text can start: at most so many and a word are encoded again.
STRIDE = 48
# Texts of a place: one more than the last, as prompts may change between A first and B first.
REMEMBERED = 2
MAX_REMEMBERED_CHARACTERS = 1_000_000
MAX_PLACES = 32
# Parts of texts and their ids: those of a few pairs, since the second order of a pair comes after the first.
MAX_PARTS, MAX_PART_CHARACTERS = 1024, 4 * STRIDE

Part = list[int]
"""Ids of a part of a text; empty until it is encoded, and not changed afterwards."""


@dataclass(frozen=True)
class CutText:
    """A text in parts. marks: 0, the cuts, the end."""

    text: str
    parts: list[Part]
    marks: list[int]


_NOTHING = CutText("", [], [0])


class SharedText:
    """Remembers the last texts of each place and their parts.

    Threads may share it: a remembered text is never changed, only replaced, and any of them is right to start from.
    """

    def __init__(self, behind_cut: Encode | None, forbidden: frozenset[int]) -> None:
        """behind_cut: encodes what follows a cut; None where texts must stay whole. forbidden: ids no text may have."""
        self._behind_cut = behind_cut
        self._forbidden = forbidden
        self._recent: dict[int, tuple[CutText, ...]] = {}
        self._parts: dict[str, Part] = {}  # behind cuts

    def encode(self, place: int, text: str, whole: Encode) -> list[int] | None:
        """`TextGroup` of a single text."""
        group = self.group()
        cut = group.add(place, text, whole)
        group.encode()
        return group.ids(cut)

    def group(self) -> TextGroup:
        return TextGroup(self._behind_cut, self._forbidden, self._recent, self._parts)


class TextGroup:
    """Texts that are encoded together: added, encoded, and then asked for.

    What is remembered changes once they are encoded, so that no other thread meets parts that have no ids yet.
    """

    def __init__(
        self,
        behind_cut: Encode | None,
        forbidden: frozenset[int],
        recent: dict[int, tuple[CutText, ...]],
        parts: dict[str, Part],
    ) -> None:
        """recent, parts: what is remembered."""
        self._behind_cut, self._forbidden = behind_cut, forbidden
        self._remembered, self._known = recent, parts
        self._recent: dict[int, tuple[CutText, ...]] = {}
        self._new: dict[Encode, dict[str, Part]] = {}
        self._forbidden_parts: set[int] = set()  # by identity

    def add(self, place: int, text: str, whole: Encode) -> CutText:
        """place: number of the text in its prompt. Texts of one place are remembered together and have the same
        `whole`.
        """
        recent = self._recent.get(place) or self._remembered.get(place, (_NOTHING,))
        for earlier in recent:
            if text == earlier.text:
                return earlier
        cut = self._start(text, recent)
        parts, marks = cut.parts, cut.marks
        for mark in self._next_marks(text, marks[-1]):
            encode = self._behind_cut if self._behind_cut and marks[-1] else whole
            parts.append(self._part(text[marks[-1] : mark], encode))
            marks.append(mark)
        if len(text) <= MAX_REMEMBERED_CHARACTERS and place < MAX_PLACES:
            self._recent[place] = (cut, *recent)[:REMEMBERED]
        return cut

    def encode(self) -> None:
        """Give every part its ids."""
        for encode, new in self._new.items():
            for part, ids in zip(new.values(), encoded_together(encode, [*new]), strict=True):
                part += ids
                if not self._forbidden.isdisjoint(ids):
                    self._forbidden_parts.add(id(part))
        if not self._forbidden_parts:
            self._remember()

    def ids(self, cut: CutText) -> list[int] | None:
        """What `whole` gives for the text; None if a forbidden id is in it."""
        if self._forbidden_parts and any(id(part) in self._forbidden_parts for part in cut.parts):
            return None
        return list(chain.from_iterable(cut.parts))

    def _remember(self) -> None:
        self._remembered.update(self._recent)
        new = self._new.get(self._behind_cut, {}) if self._behind_cut else {}
        short = [(text, part) for text, part in new.items() if len(text) <= MAX_PART_CHARACTERS]
        if len(self._known) + len(short) > MAX_PARTS:
            self._known.clear()
        self._known.update(short[-MAX_PARTS:])

    def _part(self, text: str, encode: Encode) -> Part:
        found = self._known.get(text) if encode is self._behind_cut else None
        return self._new.setdefault(encode, {}).setdefault(text, []) if found is None else found

    def _start(self, text: str, recent: tuple[CutText, ...]) -> CutText:
        """Parts and marks of what `text` shares with one of `recent`, up to a mark. The lists are new."""
        if self._behind_cut is None:
            return CutText(text, [], [0])
        shared, earlier = max(
            ((_common_prefix(earlier.text, text), earlier) for earlier in recent), key=lambda found: found[0]
        )
        kept = max(1, bisect_right(earlier.marks, shared - 2))  # a cut is a space and the letters around it
        return CutText(text, earlier.parts[: kept - 1], earlier.marks[:kept])

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
