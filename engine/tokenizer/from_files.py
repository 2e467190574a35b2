"""The tokenizer and the chat template of a Hugging Face directory, from whichever of their files it holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.engine.config.limits import LIMITS
from preftree.engine.errors import ModelError
from preftree.engine.files import is_there, naming, read_json, read_text
from preftree.engine.tokenizer import tekken
from preftree.engine.tokenizer.chat import ChatTemplate
from preftree.engine.tokenizer.hf import JsonBackend
from preftree.engine.tokenizer.sentencepiece import BOS, EOS, SentencePieceBackend, read_sentencepiece
from preftree.engine.tokenizer.tekken_chat import TEMPLATES
from preftree.engine.tokenizer.tokenizer import Tokenizer

JSON, SENTENCEPIECE, TEKKEN, ADDED = "tokenizer.json", "tokenizer.model", "tekken.json", "added_tokens.json"
SETTINGS, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"


@dataclass(frozen=True)
class TextParts:
    """The text side of a model.

    Attributes:
        files: those that decide the ids of a prompt, for fingerprints.
        notes: which of several files was taken, and what was assumed where they say nothing, one line each.
    """

    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Read:
    """What one kind of file gives. template: for directories that hold none. more: files that count beside it."""

    tokenizer: Tokenizer
    bos: str | None
    eos: str | None
    template: str | None = None
    more: tuple[str, ...] = ()


def open_text_parts(directory: Path) -> TextParts:
    """ModelError for files that are missing, broken, ask for code, or are of no kind that preftree reads."""
    settings = read_json(directory / SETTINGS) if is_there(directory / SETTINGS) else {}
    if settings.get("auto_map") and not is_there(directory / JSON):
        raise ModelError(
            f"{directory}: auto_map asks for Python code from the model directory, which preftree never runs; save the "
            f"tokenizer with transformers, which writes {JSON}"
        )
    names = [name for name in _READERS if is_there(directory / name)]
    if not names:
        hint = "download the model with all its files"
        if is_there(directory / "vocab.json"):
            hint = f"vocab.json is not supported; save the tokenizer with transformers, which writes {JSON}"
        raise ModelError(f"{directory}: holds no {JSON}, no {SENTENCEPIECE} and no {TEKKEN}; {hint}")
    unread = [*names[1:], *(["the Python code of auto_map"] if settings.get("auto_map") else [])]
    notes = [f"{names[0]} is read, and {' and '.join(unread)} is not"] if unread else []
    with naming(directory):
        found = _READERS[names[0]](directory, settings)
        source, note = _template_source(directory, settings)
        notes += [note] if note else []
        if source is None and found.template is not None:
            source = found.template
            notes.append(f"the directory holds no chat template; the version of {TEKKEN} decides how a chat is written")
        template = None if source is None else ChatTemplate(source, found.bos, found.eos)
    files = (directory / name for name in (names[0], *found.more, SETTINGS, TEMPLATE))
    return TextParts(found.tokenizer, template, tuple(file for file in files if is_there(file)), tuple(notes))


def _from_json(directory: Path, settings: dict[str, Any]) -> _Read:
    bos, eos = (_token(settings, field) for field in ("bos_token", "eos_token"))
    # Like transformers 5, let tokenizer.json decide about BOS and not add_bos_token of tokenizer_config.json.
    return _Read(Tokenizer(JsonBackend(read_json(directory / JSON)), bos, eos, None), bos, eos)


def _from_tekken(directory: Path, _: dict[str, Any]) -> _Read:
    found, (bos, eos) = tekken.read_tekken(directory / TEKKEN), (tekken.BOS, tekken.EOS)
    with naming(directory / TEKKEN):
        return _Read(Tokenizer(JsonBackend(found.data), bos, eos, True), bos, eos, TEMPLATES[found.version])


def _from_sentencepiece(directory: Path, settings: dict[str, Any]) -> _Read:
    """As transformers 5 reads the file for its LlamaTokenizer, and as SentencePiece itself encodes a text."""
    pieces = read_sentencepiece(directory / SENTENCEPIECE)
    if settings.get("add_prefix_space") is False:
        pieces = pieces.without_prefix()
    bos = _token(settings, "bos_token") or pieces.role(*BOS)
    eos = _token(settings, "eos_token") or pieces.role(*EOS)
    extra = _extra_tokens(directory, settings, pieces.texts)
    with naming(directory / SENTENCEPIECE):
        backend = SentencePieceBackend(pieces, extra, prefix_once=settings.get("legacy") is not True)
    adds_bos = bos is not None and settings.get("add_bos_token") is not False
    return _Read(Tokenizer(backend, bos, eos, adds_bos), bos, eos, more=(ADDED,))


# Where a directory holds several, the first is read.
_READERS = {JSON: _from_json, SENTENCEPIECE: _from_sentencepiece, TEKKEN: _from_tekken}


def _extra_tokens(directory: Path, settings: dict[str, Any], texts: tuple[str, ...]) -> dict[str, int]:
    """Tokens beyond the pieces `texts`, of tokenizer_config.json and, in older models, of added_tokens.json."""
    named: list[tuple[Any, Any]] = []
    if is_there(directory / ADDED):
        named += read_json(directory / ADDED).items()
    listed = settings.get("added_tokens_decoder") or {}
    for number, entry in listed.items() if isinstance(listed, dict) else ():
        content = entry.get("content") if isinstance(entry, dict) else None
        named.append((content, int(number) if number.isascii() and number.isdigit() and len(number) < 10 else number))
    extra: dict[str, int] = {}
    for content, index in named:
        if not isinstance(content, str) or type(index) is not int or not 0 <= index < LIMITS["vocab_size"]:
            raise ModelError(f"the added token {content!r:.100} with the id {index!r:.20} is none")
        if index < len(texts) and texts[index] == content:
            continue
        if index < len(texts) or content in texts or extra.get(content, index) != index:
            raise ModelError(f"the added token {content!r:.100} with the id {index} contradicts {SENTENCEPIECE}")
        extra[content] = index
    if len(set(extra.values())) < len(extra):
        raise ModelError("two added tokens have the same id; the tokenizer's files do not belong together")
    return extra


def _token(settings: dict[str, Any], field: str) -> str | None:
    """A special token of tokenizer_config.json: a string, or an object with `content`."""
    value = settings.get(field)
    if isinstance(value, dict):
        value = value.get("content")
    if value is not None and not isinstance(value, str):
        raise ModelError(f"{SETTINGS}: {field} is {value!r:.100}, which is no token")
    return value


def _template_source(directory: Path, settings: dict[str, Any]) -> tuple[str | None, str | None]:
    """The chat template: chat_template.jinja, else tokenizer_config.json's own or the one named "default"; and, where
    there are others, which it is.

    As in transformers, those in additional_chat_templates are for other purposes (tools, retrieval).
    """
    value = settings.get("chat_template")
    if is_there(directory / TEMPLATE):
        note = None if value is None else f"the chat template is {TEMPLATE}, not the one in {SETTINGS}"
        return read_text(directory / TEMPLATE), note
    note = None
    if isinstance(value, list):
        named = {str(item.get("name")): item.get("template") for item in value if isinstance(item, dict)}
        value = named.get("default")
        which = "no chat template is read: none is" if value is None else "the chat template is the one"
        note = f"{which} named default among those in {SETTINGS} ({', '.join(named)[:100]})"
    if value is not None and not isinstance(value, str):
        raise ModelError(f"{SETTINGS}: chat_template is {value!r:.100}, which is no template")
    return value, note
