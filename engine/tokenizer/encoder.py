"""A text to token ids, or many texts at once, which a library does in several threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Encode = Callable[[str], list[int]]
# What threads take to wake up is worth it from that many characters on.
_MANY_CHARACTERS = 2048


class Encoder:
    """A function of text that has a faster way with many texts."""

    def __init__(self, one: Encode, many: Callable[[list[str]], list[list[int]]]) -> None:
        """many: gives what `one` gives for each text."""
        self._one, self._many = one, many

    def __call__(self, text: str) -> list[int]:
        return self._one(text)

    def together(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text."""
        if len(texts) > 1 and sum(map(len, texts)) >= _MANY_CHARACTERS:
            return self._many(texts)
        return [self._one(text) for text in texts]


def encoded_together(encode: Encode, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text, in the way that `encode` has for many."""
    return encode.together(list(texts)) if isinstance(encode, Encoder) else [encode(text) for text in texts]
