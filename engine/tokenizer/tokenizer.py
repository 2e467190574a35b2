"""Text to token ids, such that no text can become a control token: those come from trusted callers only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.errors import InputError, ModelError
from preftree.engine.tokenizer.cuts import cuts_hold
from preftree.engine.tokenizer.encoder import Encode
from preftree.engine.tokenizer.incremental import CutText, SharedText, TextGroup

MAX_CHARACTERS = 4_000_000  # encoding this many takes some nine seconds
MAX_NORMALISED = 64_000_000  # characters that a text may become, at the worst
MAX_SPLIT_TEXTS = 64  # a chat template has a few, and every prompt asks for them


class AddedBos(int):
    """The BOS that a tokenizer itself puts in front: text behind it still begins a text."""


class Backend(Protocol):
    """A vocabulary and the library that encodes with it.

    Attributes:
        kind: of its model, for people.
        size: ids go up to one less.
        control: every token that no text should give, with its id.
        added: `control` as the entries of a tokenizer.json, which say what whitespace a token takes along.
        first_ids: what an empty text becomes with what is added to every text.
        begin: encodes a text with which a prompt begins.
        inside: encodes a text behind a control token.
        behind_cut: encodes the part of a text behind a cut (`preftree.engine.tokenizer.cuts`); None where texts must
            stay whole.
        growth: how many times as long a text may become before it is cut into tokens.
    """

    kind: str
    size: int
    control: dict[str, int]
    added: list[dict[str, Any]]
    first_ids: tuple[int, ...]
    begin: Encode
    inside: Encode
    behind_cut: Encode | None
    growth: int

    def token_id(self, token: str) -> int | None:
        """Of any entry of the vocabulary."""

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; control tokens show as their content."""


class _Text(NamedTuple):
    """A text of a prompt. whole: encodes it."""

    cut: CutText
    whole: Encode


class Tokenizer:
    """Around a backend. `control` maps every added token (special or not), BOS and EOS to ids."""

    def __init__(self, backend: Backend, bos_token: str | None, eos_token: str | None, adds_bos: bool | None) -> None:
        """adds_bos: None is as the tokenizer does. ModelError when bos_token or eos_token is not in the vocabulary."""
        self._backend = backend
        self.kind, self.vocab_size = backend.kind, backend.size
        self.control = dict(backend.control)
        self.bos_id = self._token_id("bos_token", bos_token)
        self.eos_id = self._token_id("eos_token", eos_token)
        # A vocabulary may hold its BOS or EOS as an ordinary entry; like transformers, make it a control token.
        ordinary = []
        for token, index in ((bos_token, self.bos_id), (eos_token, self.eos_id)):
            if token is not None and index is not None and token not in self.control:
                ordinary.append({"content": token})
                self.control[token] = index
        if adds_bos is None:
            adds_bos = self.bos_id is not None and backend.first_ids[:1] == (self.bos_id,)
        if adds_bos and self.bos_id is None:
            raise ModelError("the tokenizer is to add a beginning-of-sequence token, but bos_token is not set")
        self.adds_bos: bool = adds_bos
        self._control_ids = frozenset(self.control.values())
        cut = backend.behind_cut
        holds = cut is not None and cuts_hold(backend.begin, cut) and cuts_hold(backend.inside, cut)
        self._shared = SharedText(cut if holds else None, self._control_ids)
        self._split = _control_pattern([*backend.added, *ordinary])
        self._split_texts: dict[str, list[str | int]] = {}
        # Tokens that swallow the whitespace before them, and after them.
        self._lstrip, self._rstrip = (
            frozenset(self.control[token["content"]] for token in backend.added if token.get(side))
            for side in ("lstrip", "rstrip")
        )

    def _token_id(self, field: str, token: str | None) -> int | None:
        if token is None:
            return None
        index = self._backend.token_id(token)
        if index is None:
            raise ModelError(f"{field} {token!r:.100} is not in the tokenizer's vocabulary; the files do not match")
        return index

    def check_vocab(self, config: ModelConfig) -> None:
        """ModelError when the tokenizer can give an id that the model has no embedding for."""
        if self.vocab_size > config.vocab_size:
            raise ModelError(
                f"the tokenizer has ids up to {self.vocab_size - 1}, but the model only {config.vocab_size} "
                "embeddings; tokenizer.json and config.json do not belong together"
            )

    def encode(self, pieces: str | Sequence[str | int]) -> list[int]:
        """Token ids of text (`str`) and control tokens (`int` ids, put as they are). Never adds BOS or EOS.

        Neighbouring strings are joined before they are encoded, so ids are those of the whole text however it
        was cut. Text never gives a control id. Text after a control token is encoded as inside a text: a
        vocabulary that marks the start of a text ("first" in Metaspace) marks the first piece only, which may
        stand behind an AddedBos.
        InputError for lone surrogates, more than 4,000,000 characters (fewer where the tokenizer can make many of
        one), and what cannot be encoded safely.
        """
        (found,) = self.encode_all([pieces])
        if isinstance(found, InputError):
            raise found
        return found

    def encode_all(self, prompts: Sequence[str | Sequence[str | int]]) -> list[list[int] | InputError]:
        """`encode` of each, or the error that it raises: faster, as what is new in them is encoded together."""
        group = self._shared.group()
        laid = [self._laid(prompt, group) for prompt in prompts]
        group.encode()
        return [prompt if isinstance(prompt, InputError) else self._joined(prompt, group) for prompt in laid]

    def _laid(self, pieces: str | Sequence[str | int], group: TextGroup) -> list[int | _Text] | InputError:
        """Control tokens and the texts between them, which are added to `group`."""
        laid: list[int | _Text] = []
        texts: list[str] = []
        place = 0  # among the texts between control tokens
        try:
            for piece in [pieces] if isinstance(pieces, str) else pieces:
                if isinstance(piece, str):
                    texts.append(piece)
                    continue
                laid += [*self._text("".join(texts), place, group), int(piece)]
                texts, place = [], place if isinstance(piece, AddedBos) else place + 1
            laid += self._text("".join(texts), place, group)
        except InputError as error:
            return error
        return laid

    def _text(self, text: str, place: int, group: TextGroup) -> list[_Text]:
        if not text:
            return []
        _check_text(text, min(MAX_CHARACTERS, MAX_NORMALISED // self._backend.growth))
        whole = self._backend.inside if place else self._backend.begin
        return [_Text(group.add(place, text, whole), whole)]

    def _joined(self, laid: list[int | _Text], group: TextGroup) -> list[int] | InputError:
        ids: list[int] = []
        for piece in laid:
            if isinstance(piece, int):
                ids.append(piece)
                continue
            found = group.ids(piece.cut)
            try:
                ids += self._without_control(piece.cut.text, piece.whole) if found is None else found
            except InputError as error:
                return error
        return ids

    def plain(self, text: str) -> list[str | int]:
        """The pieces of a prompt without chat template: BOS if this tokenizer adds one, then the text."""
        return [AddedBos(self.bos_id), text] if self.adds_bos and self.bos_id is not None else [text]

    def with_bos(self, pieces: Sequence[str | int], wanted: bool) -> list[str | int]:
        """The pieces of a prompt with BOS in front, once, or without. ModelError where this tokenizer has none."""
        found = list(pieces)
        has_bos = bool(found) and not isinstance(found[0], str) and found[0] == self.bos_id
        if has_bos == wanted:
            return found
        if has_bos:
            return found[1:]
        if self.bos_id is None:
            raise ModelError("the template asks for a beginning-of-sequence token, but bos_token is not set")
        return [AddedBos(self.bos_id), *found]

    def _without_control(self, text: str, whole: Encode) -> list[int]:
        """Ids of a text that gives a control token as it is."""
        # Some vocabularies hold control strings as ordinary entries. Cut inside each, so that none matches.
        first, *others = self._cut(text)
        ids = whole(first)
        for part in others:
            ids += self._backend.inside(part)
        if not self._control_ids.isdisjoint(ids):
            token = next(name for name, index in self.control.items() if index in ids)
            raise InputError(f"the text turns into the control token {token!r:.100}; remove it from the text")
        return ids

    def _cut(self, text: str) -> list[str]:
        """`text` in parts, none of which holds a whole control string of two or more characters."""
        cuts = set()
        for name in self.control:
            if len(name) > 1:
                overlapping = re.finditer(f"(?={re.escape(name)})", text)
                cuts |= {match.start() + len(name) // 2 for match in overlapping}
        return [text[begin:end] for begin, end in pairwise([0, *sorted(cuts), len(text)])]

    def split_control(self, text: str) -> list[str | int]:
        """Cut TRUSTED text at control strings, longest first, into text and ids. Not for user text."""
        pieces = self._split_texts.get(text)
        if pieces is None:
            pieces = self._split_text(text)
            if len(self._split_texts) < MAX_SPLIT_TEXTS:
                self._split_texts[text] = pieces
        return list(pieces)

    def _split_text(self, text: str) -> list[str | int]:
        pieces: list[str | int] = []
        position = 0
        for match in self._split.finditer(text) if self._split else ():
            if match.start() > position:
                pieces.append(text[position : match.start()])
            pieces.append(self.control[next(group for group in match.groups() if group is not None)])
            position = match.end()
        return [*pieces, text[position:]] if position < len(text) else pieces

    def swallowed(self, pieces: Sequence[str | int]) -> list[str | int]:
        """`pieces` without the whitespace that control tokens beside it take away, however the text was cut."""
        kept = list(pieces)
        for stripping, step, strip in ((self._rstrip, 1, str.lstrip), (self._lstrip, -1, str.rstrip)):
            is_swallowing = False
            for place in range(len(kept))[::step]:
                piece = kept[place]
                if isinstance(piece, str):
                    kept[place] = text = strip(piece) if is_swallowing else piece
                    is_swallowing = is_swallowing and not text
                else:
                    is_swallowing = piece in stripping
        return kept

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; control tokens show as their content."""
        return self._backend.decode(map(int, ids))


def _check_text(text: str, limit: int) -> None:
    if len(text) > limit:
        raise InputError(f"the text has {len(text):,} characters; the limit is {limit:,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text holds a lone surrogate (U+{ord(text[error.start]):04X} at character {error.start}), "
            "which is no Unicode text; remove or replace it"
        ) from None


def _control_pattern(added_tokens: list[dict[str, Any]]) -> re.Pattern[str] | None:
    """One group a control string, longest first, with the whitespace and word rules its entry asks for."""
    alternatives = []
    named = [token for token in added_tokens if token["content"]]
    for token in sorted(named, key=lambda token: len(token["content"]), reverse=True):
        pattern = f"({re.escape(token['content'])})"
        if token.get("single_word"):
            pattern = rf"(?<!\w){pattern}(?!\w)"
        left, right = (r"\s*" if token.get(side) else "" for side in ("lstrip", "rstrip"))
        alternatives.append(f"{left}{pattern}{right}")
    return re.compile("|".join(alternatives)) if alternatives else None
