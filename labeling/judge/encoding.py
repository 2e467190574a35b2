"""From a request to token ids: the prompt, its labels where they will stand, and what comes between the two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from preftree.engine.errors import InputError, ModelError, tried
from preftree.engine.texts import continuation
from preftree.labeling.prompts.template import conversation_text
from preftree.labeling.types import Message, RationaleRequest, ScoreRequest

# Label ids depend on the text right before the label; that many tokens of it decide them.
_TAIL_TOKENS = 16
# A template that ends right behind a response has a tail for every row.
_CACHED_TAILS = 1024
# In the place of what a judge has written: any token, for a text behind one is encoded alike behind all.
_WRITTEN = 0

Pieces = list[str | int]


@dataclass(frozen=True)
class Encoded:
    """ids: the prompt's token ids. labels: token ids of each label, as they continue this prompt; or, where the judge
    is to explain first, as they continue `ending`, the ids that are put behind its `rationale`. Without labels the
    rationale is a response, and nothing is put behind it. written: token ids of each rationale, where they are recorded
    and not to be generated.
    """

    ids: list[int]
    labels: list[list[int]]
    rationale: RationaleRequest | None = None
    ending: tuple[int, ...] = ()
    written: tuple[tuple[int, ...], ...] | None = None

    @cached_property
    def array(self) -> Any:
        """`ids` as a NumPy array, which a planner takes faster."""
        import numpy as np

        return np.asarray(self.ids, dtype=np.int64)

    @property
    def labels_of_prompt(self) -> list[list[int]]:
        """`labels` where they add their rows to the prompt's; behind a rationale they are cut to what adds none."""
        return self.labels if self.rationale is None else [label[:1] for label in self.labels]


class Tokenizer(Protocol):
    """The part of the engine's tokenizer that requests need."""

    def encode(self, pieces: Sequence[str | int]) -> list[int]: ...
    def encode_all(self, prompts: Sequence[Sequence[str | int]]) -> list[list[int] | InputError]: ...
    def decode(self, ids: Iterable[int]) -> str: ...
    def plain(self, text: str) -> Pieces: ...
    def with_bos(self, pieces: Sequence[str | int], wanted: bool) -> Pieces: ...


def all_ids(tokenizer: Tokenizer, prompts: Sequence[Pieces | InputError]) -> list[list[int] | InputError]:
    """Token ids of each prompt, encoded together; the InputError of one that has no pieces, or that has no ids."""
    found = iter(tokenizer.encode_all([pieces for pieces in prompts if not isinstance(pieces, InputError)]))
    return [pieces if isinstance(pieces, InputError) else next(found) for pieces in prompts]


class RequestEncoder:
    """Encodes and renders the requests of one model."""

    def __init__(
        self, tokenizer: Tokenizer, chat: Callable[[Sequence[tuple[str, str]], str], Pieces] | None, max_context: int
    ) -> None:
        """chat: the pieces of a prompt through a chat template, of messages and answer start."""
        self._tokenizer = tokenizer
        self._chat = chat
        self._max_context = max_context
        self._label_ids: dict[tuple[object, ...], list[list[int]]] = {}
        self._endings: dict[tuple[object, ...], tuple[list[int], list[list[int]]]] = {}

    def encode(self, request: ScoreRequest) -> Encoded:
        """InputError when this prompt cannot be asked, ModelError when no prompt can."""
        (found,) = self.encode_all([request])
        if isinstance(found, InputError):
            raise found
        return found

    def encode_all(self, requests: Sequence[ScoreRequest]) -> list[Encoded | InputError]:
        """`encode` of each, or the InputError that it raises."""
        pieces = [tried(self._pieces, request) for request in requests]
        ids = all_ids(self._tokenizer, pieces)
        return [
            found if isinstance(found, InputError) else tried(self._encoded, request, found, own)
            for request, found, own in zip(requests, ids, pieces, strict=True)
        ]

    def _encoded(self, request: ScoreRequest, ids: list[int], pieces: Pieces) -> Encoded:
        """ids: of `pieces`."""
        rationale = request.rationale
        if rationale is None:
            labels = self._resolve(pieces, ids, request.answer_start, request.labels)
            longest = len(ids) + max(map(len, labels)) - 1
            if longest > self._max_context:
                raise InputError(f"the prompt has {longest:,} tokens, the model's context is {self._max_context:,}")
            return Encoded(ids, labels)
        if not request.labels:
            self._check_response(len(ids), rationale.reasoning.max_new_tokens)
            return Encoded(ids, [], rationale)
        ending, labels = self._ending(rationale.ending, request.labels)
        self._check_room(len(ids), rationale.reasoning.max_new_tokens, len(ending) + max(map(len, labels)) - 1)
        return Encoded(ids, labels, rationale, tuple(ending))

    def render(self, request: ScoreRequest) -> str:
        """The whole prompt as text, control tokens included, for people to read."""
        return "".join(
            piece if isinstance(piece, str) else self._tokenizer.decode([piece]) for piece in self._pieces(request)
        )

    def _pieces(self, request: ScoreRequest) -> Pieces:
        system = () if request.system is None else (Message("system", request.system),)
        messages = (*system, *request.history, Message("user", request.user))
        if self._chat is not None:
            pieces = self._chat(messages, request.answer_start)
        else:
            told, start = "\n\n".join(filter(None, (request.system, request.user))), request.answer_start
            if request.history:
                told, start = conversation_text(messages), f"Assistant: {start}".rstrip()
            pieces = self._tokenizer.plain(f"{told}{request.seam}{start}" if start else told)
        return pieces if request.bos is None else self._tokenizer.with_bos(pieces, request.bos)

    def _ending(self, text: str, labels: tuple[str, ...]) -> tuple[list[int], list[list[int]]]:
        """Token ids of an ending on its own, as it is put behind ids that the model wrote, and of labels behind it."""
        key = (text, labels)
        if key not in self._endings:
            if len(self._endings) >= _CACHED_TAILS:
                self._endings.clear()
            pieces: Pieces = [_WRITTEN, text]
            ids = self._tokenizer.encode(pieces)
            self._endings[key] = ids[1:], self._resolve(pieces, ids, text, labels)
        return self._endings[key]

    def _check_room(self, prompt: int, rationale: int, answer: int) -> None:
        """InputError unless the longest rationale fits. Arguments in tokens; answer: the ending and a label."""
        missing = prompt + rationale + answer - self._max_context
        if missing > 0:
            parts = f"the prompt has {prompt:,}, the rationale may have {rationale:,} and the answer {answer:,}"
            raise InputError(
                f"no room for a rationale: {missing:,} tokens are missing, as {parts}, and the model's context is "
                f"{self._max_context:,}; --max-rationale-tokens makes it shorter"
            )

    def _check_response(self, prompt: int, response: int) -> None:
        """InputError unless the longest response fits. Arguments in tokens."""
        if prompt + response > self._max_context:
            raise InputError(
                f"no room for a response: the prompt has {prompt:,} tokens and the response may have {response:,}, but "
                f"the model's context is {self._max_context:,}; --max-tokens makes it shorter"
            )

    def _resolve(self, pieces: Pieces, ids: Sequence[int], start: str, labels: tuple[str, ...]) -> list[list[int]]:
        """Token ids of the labels at the real answer position: what each adds to the ids of `pieces`, which end in
        the text `start`.
        """
        key = (tuple(ids[-_TAIL_TOKENS:]), start, labels)
        found = self._label_ids.get(key)
        if found is None:
            resolved = []
            for label in labels:
                added = continuation(self._tokenizer, pieces, ids, label)
                if added is None:
                    raise ModelError(
                        f"label {label!r} merges with the answer start {start!r} in this model's "
                        "tokenizer; move the space between them from one to the other in the template"
                    )
                resolved.append(added)
            if len({tuple(label) for label in resolved}) < len(resolved):
                raise ModelError(f"labels {labels} are not distinct for this model's tokenizer: {resolved}")
            if len(self._label_ids) >= _CACHED_TAILS:
                self._label_ids.clear()
            found = self._label_ids[key] = resolved
        return found
