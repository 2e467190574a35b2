"""A tokenizer.json of Hugging Face, encoded by the `tokenizers` library."""

import copy
import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer as Library

from preftree.engine.errors import ModelError
from preftree.engine.files import first_line
from preftree.engine.tokenizer.cuts import Encode, characters_to_drop
from preftree.engine.tokenizer.sentencepiece import is_blank


class JsonBackend:
    """See `preftree.engine.tokenizer.tokenizer.Backend`.

    Only added tokens of nothing but whitespace that are not special (Gemma's blank lines) are text like any other.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        """data: a tokenizer.json, parsed. ModelError when the library refuses it."""
        self._full = _library(data)
        entries = data.get("added_tokens") or []
        blank = {token["content"] for token in entries if _is_text(token)}
        self.kind = str((data.get("model") or {}).get("type"))
        self.size: int = max(self._full.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        self.control: dict[str, int] = {
            token.content: index
            for index, token in self._full.get_added_tokens_decoder().items()
            if token.content not in blank
        }
        self.added: list[dict[str, Any]] = [token for token in entries if token["content"] in self.control]
        self.first_ids: tuple[int, ...] = tuple(self._full.encode("", add_special_tokens=True).ids)
        plain = _plain(data)
        inside = _without_start_prefix(plain)
        begin_library = _library(plain)
        inside_library = begin_library if inside == plain else _library(inside)
        self.begin, self.inside = _encoder(begin_library), _encoder(inside_library)
        dropped = characters_to_drop(inside)
        can_be_cut = dropped is not None and characters_to_drop(plain) is not None
        self.behind_cut: Encode | None = _encoder(inside_library, dropped or 0) if can_be_cut else None

    def token_id(self, token: str) -> int | None:
        index: int | None = self._full.token_to_id(token)
        return index

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._full.decode(list(ids), skip_special_tokens=False))


def _library(data: dict[str, Any]) -> Library:
    try:
        return Library.from_str(json.dumps(data))
    except BaseException as error:  # the library raises bare Exception, and panics, which are none
        if _is_foreign(error):
            raise
        raise ModelError(f"tokenizer.json: the tokenizers library refuses it ({first_line(error)})") from None


def _is_foreign(error: BaseException) -> bool:
    """Whether an error is not the library's own. Its panics are no Exceptions, and their class cannot be imported."""
    return not isinstance(error, Exception) and type(error).__name__ != "PanicException"


def _encoder(library: Library, dropped: int = 0) -> Encode:
    """`library` as a function of text, which loses `dropped` characters in front."""

    def encode(text: str) -> list[int]:
        try:
            ids: list[int] = library.encode(text[dropped:], add_special_tokens=False).ids
        except BaseException as error:
            if _is_foreign(error):
                raise
            raise ModelError(f"tokenizer.json: the tokenizers library fails with it ({first_line(error)})") from None
        return ids

    return encode


def _is_text(token: dict[str, Any]) -> bool:
    """Whether an added token is but a way to write whitespace."""
    flags = ("special", "single_word", "lstrip", "rstrip")
    return bool(token["content"]) and is_blank(token["content"]) and not any(token.get(flag) for flag in flags)


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer without control tokens and without anything that adds or drops tokens."""
    dropped: dict[str, Any] = {
        "added_tokens": [token for token in data.get("added_tokens") or [] if _is_text(token)],
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
