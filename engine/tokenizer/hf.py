"""A tokenizer.json of Hugging Face, encoded by the `tokenizers` library."""

import copy
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from tokenizers import Tokenizer as Library

from preftree.engine.errors import ModelError
from preftree.engine.files import first_line
from preftree.engine.tokenizer.cuts import characters_to_drop
from preftree.engine.tokenizer.encoder import Encode, Encoder
from preftree.engine.tokenizer.growth import check_tables, growth, may_panic, steps_of
from preftree.engine.tokenizer.held_back import held_back
from preftree.engine.tokenizer.sentencepiece import is_blank

# WordPiece looks every part of a word up; published ones have words of up to 100. Unigram goes along an entry from
# every place of a text on; SentencePiece's trainer makes entries of up to 16 by default.
MAX_WORD_CHARACTERS = 256
_PREFIX = "continuing_subword_prefix"

Guard = Callable[[], AbstractContextManager[None]]


class JsonBackend:
    """See `preftree.engine.tokenizer.tokenizer.Backend`.

    Only added tokens of nothing but whitespace that are not special (Gemma's blank lines) are text like any other.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        """data: a tokenizer.json, parsed. ModelError when the library refuses it, or when preftree does: it draws at
        random, or makes texts far too long.
        """
        check_tables(data.get("normalizer"))
        _check_merges(data.get("model"))
        self._full = _library({**data, "truncation": None, "padding": None})
        _check_model(self._full, data.get("model") or {})
        steps, decoder = self._steps()
        self.growth = growth(steps, "normalizer and pre-tokenizer")
        growth(decoder, "decoder")
        self._guard: Guard = held_back if may_panic([*steps, *decoder]) else nullcontext
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
        self.first_ids: tuple[int, ...] = tuple(_call(held_back, self._full.encode, "").ids)
        plain = _plain(data)
        inside = _without_start_prefix(plain)
        begin_library = _library(plain)
        inside_library = begin_library if inside == plain else _library(inside)
        self.begin: Encode = _encoder(begin_library, self._guard)
        self.inside: Encode = _encoder(inside_library, self._guard)
        dropped = characters_to_drop(inside)
        can_be_cut = dropped is not None and characters_to_drop(plain) is not None
        self.behind_cut: Encode | None = _encoder(inside_library, self._guard, dropped or 0) if can_be_cut else None

    def _steps(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What a text goes through before it is cut into tokens, and what tokens go through to become a text."""
        library = self._full
        return [*steps_of(library.normalizer), *steps_of(library.pre_tokenizer)], steps_of(library.decoder)

    def token_id(self, token: str) -> int | None:
        index: int | None = self._full.token_to_id(token)
        return index

    def decode(self, ids: Iterable[int]) -> str:
        return str(_call(self._guard, self._full.decode, list(ids), skip_special_tokens=False))


def _library(data: dict[str, Any]) -> Library:
    return _call(held_back, Library.from_str, json.dumps(data), verb="refuses it")


def _call(guard: Guard, function: Callable[..., Any], *given: Any, verb: str = "fails with it", **options: Any) -> Any:
    """A function of the library, whose errors are bare Exceptions, and panics, which are none and print."""
    try:
        with guard():
            return function(*given, **options)
    except BaseException as error:
        # The class of panics cannot be imported.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"tokenizer.json: the tokenizers library {verb} ({first_line(error)})") from None


def _encoder(library: Library, guard: Guard, dropped: int = 0) -> Encoder:
    """`library` as a function of text, which loses `dropped` characters in front."""

    def one(text: str) -> list[int]:
        ids: list[int] = _call(guard, library.encode, text[dropped:], add_special_tokens=False).ids
        return ids

    def many(texts: list[str]) -> list[list[int]]:
        """Without Python's lock, and without the places of tokens in the text."""
        kept = [text[dropped:] for text in texts] if dropped else texts
        return [found.ids for found in _call(guard, library.encode_batch_fast, kept, add_special_tokens=False)]

    return Encoder(one, many)


def _check_merges(model: Any) -> None:
    """ModelError for a merge that the library would cut in the middle of a character, and then end the process."""
    prefix, merges = (model.get(key) if isinstance(model, dict) else None for key in (_PREFIX, "merges"))
    if not isinstance(prefix, str) or not isinstance(merges, list):
        return
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in merges)
    rights = (pair[1] for pair in pairs if isinstance(pair, list) and len(pair) == 2)
    if not all(isinstance(right, str) and right.startswith(prefix) for right in rights):
        raise ModelError(f"tokenizer.json: a merge lacks the {_PREFIX}; download it again")


def _check_model(library: Library, data: dict[str, Any]) -> None:
    """ModelError for a model that gives other ids or texts each time, or takes time without bound."""
    model, vocabulary = library.model, data.get("vocab")
    sampled = [name for name in ("dropout", "alpha") if getattr(model, name, None)]
    if sampled:
        raise ModelError(
            f"tokenizer.json: its model has {sampled[0]!r}, which cuts the same text otherwise each time; set it to 0"
        )
    if isinstance(vocabulary, dict) and len(set(vocabulary.values())) < len(vocabulary):
        raise ModelError("tokenizer.json: two entries of its vocabulary have the same id; download it again")
    longest, what = getattr(model, "max_input_chars_per_word", 0), "max_input_chars_per_word is"
    if isinstance(vocabulary, list):
        longest, what = max((len(entry[0]) for entry in vocabulary), default=0), "the letters of its longest entry are"
    if longest > MAX_WORD_CHARACTERS:
        raise ModelError(f"tokenizer.json: {what} {longest:,}; preftree's limit is {MAX_WORD_CHARACTERS}")


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
