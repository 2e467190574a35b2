"""Prompts and labels as texts: their token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from preftree.engine.errors import InputError

if TYPE_CHECKING:
    from preftree.engine.planning.lookups import Labels

Text = str | Sequence[int]
"""A text, or token ids."""


class Tokenizer(Protocol):
    """What is needed of a tokenizer."""

    def encode(self, pieces: Sequence[str | int]) -> list[int]: ...
    def plain(self, text: str) -> list[str | int]: ...


def continuation(tokenizer: Tokenizer, pieces: Sequence[str | int], ids: Sequence[int], text: str) -> list[int] | None:
    """Token ids that `text` adds after `pieces`, whose ids are `ids`; None where it adds none or changes those."""
    whole = tokenizer.encode([*pieces, text])
    return whole[len(ids) :] if whole[: len(ids)] == list(ids) and len(whole) > len(ids) else None


def encoded_prompts(tokenizer: Tokenizer, prompts: Sequence[Text]) -> list[Sequence[int]]:
    """Token ids of each."""
    return [tokenizer.encode(tokenizer.plain(text)) if isinstance(text, str) else text for text in prompts]


def encoded(
    tokenizer: Tokenizer, prompts: Sequence[Text], labels: Sequence[str] | Sequence[Sequence[Text]]
) -> tuple[list[Sequence[int]], list[Labels]]:
    """Token ids of prompts, and of the labels after each.

    labels: of each prompt, or texts that are the labels of all prompts. A label that is a text gets the ids which it
    adds after its prompt. Raises InputError where it merges with the prompt's last token.
    """
    of_all = [label for label in labels if isinstance(label, str)]
    of_each = [of_all] * len(prompts) if of_all and len(of_all) == len(labels) else labels
    if len(of_each) != len(prompts):
        raise InputError(f"there are {len(prompts)} prompts but labels for {len(of_each)}")
    ids: list[Sequence[int]] = []
    found: list[Labels] = []
    for index, (prompt, options) in enumerate(zip(prompts, of_each, strict=True)):
        pieces = tokenizer.plain(prompt) if isinstance(prompt, str) else prompt
        own = tokenizer.encode(pieces) if isinstance(prompt, str) else prompt
        ids.append(own)
        found.append([_label(tokenizer, index, pieces, own, label) for label in options])
    return ids, found


def _label(
    tokenizer: Tokenizer, index: int, pieces: Sequence[str | int], ids: Sequence[int], label: Text
) -> Sequence[int]:
    if not isinstance(label, str):
        return label
    added = continuation(tokenizer, pieces, ids, label)
    if added is None:
        raise InputError(
            f"label {label!r} merges with the end of prompt {index} in this model's tokenizer; move the space between "
            "them from one to the other"
        )
    return added
