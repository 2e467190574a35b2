"""Mistral's tekken.json, as a tokenizer.json: special tokens, then entries of bytes by rank, as tiktoken has them.

Format: mistral_common.tokens.tokenizers.tekken (1.13). Ids below `default_num_special_tokens` are special, named or
not, and no text gives them.
"""

import base64
import binascii
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from preftree.engine.config.limits import LIMITS
from preftree.engine.errors import ModelError
from preftree.engine.files import naming, read_json
from preftree.engine.tokenizer.tekken_chat import TEMPLATES

BOS, EOS = "<s>", "</s>"
# Published entries have up to 76 bytes, and all of them together 0.9 million.
MAX_ENTRY_BYTES, MAX_VOCABULARY_BYTES = 256, 4_000_000
MAX_PATTERN_CHARACTERS = 10_000
# Of files that name none; later versions always do.
_UNNAMED: tuple[str, ...] = ("<unk>", BOS, EOS, "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]")
_UNNAMED += ("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]")
_UNNAMED += ("[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]")
_MAY_LEAVE_UNNAMED = ("v3", "v7")
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_AGAIN = "download it again"


@dataclass(frozen=True)
class Tekken:
    """data: the same as a tokenizer.json. version: a key of TEMPLATES."""

    data: dict[str, Any]
    version: str


def read_tekken(path: Path) -> Tekken:
    """ModelError, one line, for a file that is broken, or that preftree does not read."""
    found = read_json(path)
    with naming(path):
        config = found.get("config")
        if not isinstance(config, dict):
            raise ModelError(f"holds no object 'config': it is no tekken.json, or was damaged; {_AGAIN}")
        version = config.get("version")
        if not isinstance(version, str) or version not in TEMPLATES:
            known = ", ".join(TEMPLATES)
            raise ModelError(
                f"version {version!r:.100} is not supported; preftree reads {known}; "
                "add the model's tokenizer.json and chat_template.jinja"
            )
        pattern = config.get("pattern")
        if not isinstance(pattern, str) or not 0 < len(pattern) <= MAX_PATTERN_CHARACTERS:
            raise ModelError(f"config.pattern is no regular expression of at most {MAX_PATTERN_CHARACTERS:,} letters")
        size, num_special = (_whole(config, field) for field in ("default_vocab_size", "default_num_special_tokens"))
        special = _special(found.get("special_tokens"), num_special, version)
        entries = _entries(found.get("vocab"), size - num_special)
        return Tekken(_tokenizer_json(special, entries, pattern), version)


def _whole(config: dict[str, Any], field: str) -> int:
    value = config.get(field)
    if type(value) is not int or not 0 < value <= LIMITS["vocab_size"]:
        raise ModelError(f"config.{field} is {value!r:.100}, not a number from 1 to {LIMITS['vocab_size']:,}; {_AGAIN}")
    return value


def _special(listed: Any, wanted: int, version: str) -> list[str]:
    """All special tokens by id; those that the file does not name are called <SPECIAL_20> and so on."""
    if listed is None and version in _MAY_LEAVE_UNNAMED:
        names = list(_UNNAMED)
    elif isinstance(listed, list):
        names = [_special_name(entry, place) for place, entry in enumerate(listed)]
    else:
        raise ModelError(f"special_tokens is {'missing' if listed is None else 'no list'}; {_AGAIN}")
    if len(names) > wanted:
        raise ModelError(f"names {len(names):,} special tokens, and config.default_num_special_tokens is {wanted:,}")
    names += [f"<SPECIAL_{index}>" for index in range(len(names), wanted)]
    if len(set(names)) < len(names) or not {BOS, EOS} <= set(names):
        raise ModelError(f"special_tokens names one twice, or lacks {BOS} or {EOS}; {_AGAIN}")
    return names


def _special_name(entry: Any, place: int) -> str:
    name = entry.get("token_str") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name or len(name) > MAX_ENTRY_BYTES or entry.get("rank") != place:
        raise ModelError(f"special token {place} is {entry!r:.100}, which is none of rank {place}; {_AGAIN}")
    return name


def _entries(listed: Any, wanted: int) -> list[bytes]:
    """The first `wanted` entries by rank, the 256 bytes first."""
    if not isinstance(listed, list) or not 256 <= wanted <= len(listed):
        held = f"{len(listed):,}" if isinstance(listed, list) else "no"
        raise ModelError(f"vocab holds {held} entries, and config asks for {wanted:,}, at least 256; {_AGAIN}")
    entries = [_entry(entry, rank) for rank, entry in enumerate(listed[:wanted])]
    if sum(map(len, entries)) > MAX_VOCABULARY_BYTES:
        raise ModelError(f"the entries of vocab have more than {MAX_VOCABULARY_BYTES:,} bytes, preftree's limit")
    if len(set(entries)) < wanted:
        raise ModelError(f"vocab holds an entry twice; {_AGAIN}")
    return entries


def _entry(entry: Any, rank: int) -> bytes:
    encoded = entry.get("token_bytes") if isinstance(entry, dict) and entry.get("rank") == rank else None
    try:
        value = base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else b""
    except (binascii.Error, ValueError):
        value = b""
    if not 0 < len(value) <= MAX_ENTRY_BYTES or (rank < 256 and value != bytes((rank,))):
        raise ModelError(f"entry {rank} of vocab is {entry!r:.100}, which is none of rank {rank}; {_AGAIN}")
    return value


def _tokenizer_json(special: list[str], entries: list[bytes], pattern: str) -> dict[str, Any]:
    characters = _byte_characters()
    texts = ["".join(map(characters.__getitem__, entry)) for entry in entries]
    vocab = {text: index for index, text in enumerate(special)} | {
        text: index for index, text in enumerate(texts, len(special))
    }
    if len(vocab) < len(special) + len(texts):
        twice = next(text for text in texts if text in special)
        raise ModelError(f"{twice!r:.100} is both a special token and an entry of vocab, which is not supported")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": text, **flags} for index, text in enumerate(special)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [cut, _BYTES]},
        "post_processor": None,
        "decoder": _BYTES,
        "model": {"type": "BPE", "vocab": vocab, "merges": _merges(texts), "ignore_merges": True},
    }


def _merges(texts: list[str]) -> list[list[str]]:
    """Every way to put an entry together from two others. tiktoken joins whatever becomes the entry of lowest rank."""
    rank = {text: place for place, text in enumerate(texts)}
    merges: list[list[str]] = []
    for text in texts:
        parts = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        pairs = [(rank[left], rank[right], left, right) for left, right in parts if left in rank and right in rank]
        merges += [[left, right] for *_, left, right in sorted(pairs)]
    return merges


def _byte_characters() -> list[str]:
    """A printable character for each byte, as a step of type ByteLevel has them: GPT-2's bytes_to_unicode."""
    others = count(256)
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
