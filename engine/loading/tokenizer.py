"""Text to token ids, such that no text can become a control token: those come from trusted callers only."""

import copy
import json
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer as Backend

from engine.errors import InputError, ModelError
from engine.loading.config import ModelConfig
from engine.loading.files import first_line, parse_json

MAX_CHARACTERS = 4_000_000  # encoding this many takes some nine seconds


class Tokenizer:
    """Around the `tokenizers` library. `control` maps every added token (special or not), BOS and EOS to ids."""

    def __init__(self, data: dict[str, Any], bos_token: str | None, eos_token: str | None, adds_bos: bool | None):
        """See `from_json`, which reads `data` from text."""
        self._full = _backend(data)
        self.control: dict[str, int] = {
            token.content: index for index, token in self._full.get_added_tokens_decoder().items()
        }
        self.vocab_size: int = max(self._full.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.bos_id = self._token_id("bos_token", bos_token)
        self.eos_id = self._token_id("eos_token", eos_token)
        # A vocabulary may hold its BOS or EOS as an ordinary entry; like transformers, make it a control token.
        ordinary = []
        for token, index in ((bos_token, self.bos_id), (eos_token, self.eos_id)):
            if token is not None and index is not None and token not in self.control:
                ordinary.append({"content": token})
                self.control[token] = index
        if adds_bos is None:
            ids = self._full.encode("", add_special_tokens=True).ids
            adds_bos = self.bos_id is not None and ids[:1] == [self.bos_id]
        if adds_bos and self.bos_id is None:
            raise ModelError("the tokenizer is to add a beginning-of-sequence token, but bos_token is not set")
        self.adds_bos: bool = adds_bos
        self._start = _backend(_plain(data))
        inside = _without_start_prefix(_plain(data))
        self._inside = self._start if inside == _plain(data) else _backend(inside)
        self._control_ids = frozenset(self.control.values())
        self._split = _control_pattern([*(data.get("added_tokens") or []), *ordinary])

    @classmethod
    def from_json(
        cls, text: str, *, bos_token: str | None, eos_token: str | None, adds_bos: bool | None = None
    ) -> "Tokenizer":
        """From the text of a tokenizer.json. `adds_bos` None means: as its post-processor does.

        ModelError when the text is broken or bos_token or eos_token is not in the vocabulary.
        """
        return cls(parse_json(text, "tokenizer.json"), bos_token, eos_token, adds_bos)

    def _token_id(self, field: str, token: str | None) -> int | None:
        if token is None:
            return None
        index = self._full.token_to_id(token)
        if index is None:
            raise ModelError(f"{field} {token!r:.100} is not in the tokenizer's vocabulary; the files do not match")
        return int(index)

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
        vocabulary that marks the start of a text ("first" in Metaspace) marks the first piece only.
        InputError for lone surrogates, more than 4,000,000 characters, and what cannot be encoded safely.
        """
        ids: list[int] = []
        texts: list[str] = []
        first = True
        for piece in [pieces] if isinstance(pieces, str) else pieces:
            if isinstance(piece, str):
                texts.append(piece)
                continue
            ids += self._encode_text("".join(texts), first)
            ids.append(piece)
            texts, first = [], False
        return ids + self._encode_text("".join(texts), first)

    def plain(self, text: str) -> list[str | int]:
        """The pieces of a prompt without chat template: BOS if this tokenizer adds one, then the text."""
        return [self.bos_id, text] if self.adds_bos and self.bos_id is not None else [text]

    def _encode_text(self, text: str, first: bool) -> list[int]:
        if not text:
            return []
        _check_text(text)
        encoder = self._start if first else self._inside
        ids: list[int] = encoder.encode(text, add_special_tokens=False).ids
        if self._control_ids.isdisjoint(ids):
            return ids
        # Some vocabularies hold control strings as ordinary entries. Cut inside each, so that none matches.
        ids = []
        for index, part in enumerate(self._cut(text)):
            encoder = self._start if first and index == 0 else self._inside
            ids += encoder.encode(part, add_special_tokens=False).ids
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
        pieces: list[str | int] = []
        position = 0
        for match in self._split.finditer(text) if self._split else ():
            if match.start() > position:
                pieces.append(text[position : match.start()])
            pieces.append(self.control[next(group for group in match.groups() if group is not None)])
            position = match.end()
        return [*pieces, text[position:]] if position < len(text) else pieces

    def decode(self, ids: Iterable[int]) -> str:
        """Text of `ids`; control tokens show as their content."""
        return str(self._full.decode([int(index) for index in ids], skip_special_tokens=False))


def _check_text(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise InputError(f"the text has {len(text):,} characters; the limit is {MAX_CHARACTERS:,}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text holds a lone surrogate (U+{ord(text[error.start]):04X} at character {error.start}), "
            "which is no Unicode text; remove or replace it"
        ) from None


def _backend(data: dict[str, Any]) -> Backend:
    try:
        return Backend.from_str(json.dumps(data))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"tokenizer.json: the tokenizers library refuses it ({first_line(error)})") from None


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer without control tokens and without anything that adds or drops tokens."""
    dropped: dict[str, Any] = {
        "added_tokens": [],
        "post_processor": None,
        "truncation": None,
        "padding": None,
    }
    return {**data, **dropped}


def _without_start_prefix(data: dict[str, Any]) -> dict[str, Any]:
    """The same tokenizer for text that does not begin a prompt."""
    data = {**data, "pre_tokenizer": copy.deepcopy(data.get("pre_tokenizer"))}
    outer = data["pre_tokenizer"] or {}
    for step in outer.get("pretokenizers") or [outer]:
        if step.get("type") == "Metaspace" and step.get("prepend_scheme") == "first":
            step["prepend_scheme"] = "never"
    return data


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
