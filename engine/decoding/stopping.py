"""When a continuation is over, and what of it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class StopRule:
    """Control tokens end a continuation, and so do texts."""

    def __init__(self, ids: frozenset[int], texts: Sequence[str], decode: Callable[[Sequence[int]], str]) -> None:
        """ids: control tokens. texts: none empty. decode: from token ids to text."""
        self.ids = ids
        self._texts = texts
        self._decode = decode
        # A token is a byte or more of text; some more, as decoding may lose or spoil what stands at the beginning.
        self._tail = max((len(text.encode()) for text in texts), default=0) + 8

    def kept(self, ids: Sequence[int]) -> tuple[int, str] | None:
        """How many of `ids` lie wholly before the first stop text, and the text between them and it.

        None unless the last of `ids` completes a stop text.
        """
        if not self._texts:
            return None
        tail = self._decode(ids[-self._tail :])
        if not any(text in tail for text in self._texts):
            return None
        whole = self._decode(ids)
        begin = min((place for place in map(whole.find, self._texts) if place >= 0), default=len(whole))
        for kept in range(len(ids), 0, -1):
            text = self._decode(ids[:kept])
            if whole.startswith(text, 0, begin):
                return kept, whole[len(text) : begin]
        return 0, whole[:begin]
