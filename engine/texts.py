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
    """Token ids that `text` adds behind `pieces`, whose ids are `ids`; None where it adds none or changes those."""
    whole = tokenizer.encode([*pieces, text])
    return whole[len(ids) :] if whole[: len(ids)] == list(ids) and len(whole) > len(ids) else None


def encoded(
    tokenizer: Tokenizer, prompts: Sequence[Text], labels: Sequence[str] | Sequence[Sequence[Text]]
) -> tuple[list[Sequence[int]], list[Labels]]:
    """Token ids of prompts, and of the labels behind each.

    labels: of each prompt, or texts that are the labels of all prompts. A label that is a text gets the ids which it
    adds behind its prompt. Raises InputError where it merges with the prompt's last token.
    """
    if len(labels) and all(isinstance(label, str) for label in labels):
        labels = [labels] * len(prompts)
    ids: list[Sequence[int]] = []
    found: list[Labels] = []
    for index, prompt in enumerate(prompts):
        pieces = tokenizer.plain(prompt) if isinstance(prompt, str) else prompt
        ids.append(tokenizer.encode(pieces) if isinstance(prompt, str) else prompt)
        options = labels[index] if index < len(labels) else []  # too few: the engine says so
        if any(isinstance(label, str) for label in options):
            options = [_label(tokenizer, index, pieces, ids[-1], label) for label in options]
        found.append(options)
    return ids, [*found[: len(labels)], *labels[len(prompts) :]]


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
