"""From a response to the token ids that a reward model reads. Text can never become a control token."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from preftree.engine.errors import InputError, tried
from preftree.labeling.judge.encoding import Pieces, Tokenizer, all_ids
from preftree.labeling.prompts.reward_input import Layout, input_sha256, reward_messages
from preftree.labeling.types import Message


class RewardEncoder:
    """Encodes responses for one reward model, in training and in scoring alike.

    Attributes:
        layout: of its input.
        template_sha256: hash of chat template and layout together.
        max_tokens: the longest input.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        finished: Callable[[Sequence[tuple[str, str]]], Pieces],
        template: str,
        layout: Layout,
        max_tokens: int,
    ) -> None:
        """finished: the pieces of a conversation through the chat template, whose source is `template`."""
        self._tokenizer, self._finished = tokenizer, finished
        self.layout: Layout = layout
        self.template_sha256 = input_sha256(layout, template)
        self.max_tokens = max_tokens

    def encode(self, prompt: Sequence[Message], response: str, principles: Sequence[str] = ()) -> list[int]:
        """Token ids. InputError for a text that cannot be encoded, is too long, or that the chat template refuses."""
        (found,) = self.encode_all([(prompt, response, principles)])
        if isinstance(found, InputError):
            raise found
        return found

    def encode_all(self, given: Sequence[tuple[Sequence[Message], str, Sequence[str]]]) -> list[list[int] | InputError]:
        """`encode` of each, or the InputError that it raises."""
        found = all_ids(self._tokenizer, [tried(self._pieces, *one) for one in given])
        return [ids if isinstance(ids, InputError) else tried(self._checked, ids) for ids in found]

    def _pieces(self, prompt: Sequence[Message], response: str, principles: Sequence[str]) -> Pieces:
        return self._finished(reward_messages(prompt, response, self.layout, principles))

    def _checked(self, ids: list[int]) -> list[int]:
        if len(ids) > self.max_tokens:
            raise InputError(f"longer than {self.max_tokens:,} tokens")
        return ids
