"""The tokenizer and the chat template of a Hugging Face directory, from whichever of their files it holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.engine.config.limits import LIMITS
from preftree.engine.errors import ModelError
from preftree.engine.files import is_there, naming, read_json, read_text
from preftree.engine.tokenizer.chat import ChatTemplate
from preftree.engine.tokenizer.hf import JsonBackend
from preftree.engine.tokenizer.sentencepiece import BOS, EOS, SentencePieceBackend, read_sentencepiece
from preftree.engine.tokenizer.tokenizer import Tokenizer

JSON, SENTENCEPIECE, ADDED = "tokenizer.json", "tokenizer.model", "added_tokens.json"
SETTINGS, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"


@dataclass(frozen=True)
class TextParts:
    """files: those that decide the ids of a prompt, for fingerprints."""

    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    files: tuple[Path, ...]


def open_text_parts(directory: Path) -> TextParts:
    """ModelError for files that are missing, broken, ask for code, or are of no kind that preftree reads."""
    settings = read_json(directory / SETTINGS) if is_there(directory / SETTINGS) else {}
    if settings.get("auto_map"):
        raise ModelError(
            f"{directory}: auto_map asks for Python code from the model directory, which preftree never runs"
        )
    names = [name for name in (JSON, SENTENCEPIECE) if is_there(directory / name)][:1]
    if not names:
        others = [name for name in ("tekken.json", "vocab.json") if is_there(directory / name)]
        hint = f"{others[0]} is not supported" if others else "download the model with all its files"
        raise ModelError(f"{directory}: holds no {JSON} and no {SENTENCEPIECE}; {hint}")
    with naming(directory):
        if names == [JSON]:
            bos, eos = (_token(settings, field) for field in ("bos_token", "eos_token"))
            # Like transformers 5, let tokenizer.json decide about BOS and not add_bos_token of tokenizer_config.json.
            tokenizer = Tokenizer(JsonBackend(read_json(directory / JSON)), bos, eos, None)
        else:
            tokenizer, bos, eos = _from_sentencepiece(directory, settings)
            names.append(ADDED)
        source = _template_source(directory, settings)
        template = None if source is None else ChatTemplate(source, bos, eos)
    files = (directory / name for name in (*names, SETTINGS, TEMPLATE))
    return TextParts(tokenizer, template, tuple(file for file in files if is_there(file)))


def _from_sentencepiece(directory: Path, settings: dict[str, Any]) -> tuple[Tokenizer, str | None, str | None]:
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
    return Tokenizer(backend, bos, eos, adds_bos), bos, eos


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


def _template_source(directory: Path, settings: dict[str, Any]) -> str | None:
    """The chat template: chat_template.jinja, else tokenizer_config.json's own or the one named "default".

    As in transformers, those in additional_chat_templates are for other purposes (tools, retrieval).
    """
    if is_there(directory / TEMPLATE):
        return read_text(directory / TEMPLATE)
    value = settings.get("chat_template")
    if isinstance(value, list):
        named = {str(item.get("name")): item.get("template") for item in value if isinstance(item, dict)}
        value = named.get("default")
    if value is not None and not isinstance(value, str):
        raise ModelError(f"{SETTINGS}: chat_template is {value!r:.100}, which is no template")
    return value
