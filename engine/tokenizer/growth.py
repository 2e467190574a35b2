"""How much longer the steps of a tokenizer.json may make a text, and whether they may make the library panic.

A step is a normaliser, a pre-tokeniser or a decoder as the library writes it. Its factor is how many characters one
character may become. Factors of a chain multiply, so that forty harmless steps can make 10^12 characters of one.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from math import ceil, prod
from typing import Any

from preftree.engine.errors import ModelError
from preftree.engine.tokenizer.cuts import is_known_regex

# Published chains have up to ten steps and factors up to 132 (Precompiled, Replace, Metaspace).
MAX_STEPS, MAX_GROWTH = 100, 1_000
# The most that Unicode's normal forms and lower case make of a character; a byte-level step writes bytes as characters
# and may put a space in front, a Metaspace step a space, and BERT's puts spaces around a character.
_FACTORS = {"NFC": 3, "NFD": 4, "NFKC": 18, "NFKD": 18, "Lowercase": 2, "BertNormalizer": 12}
_FACTORS |= {"ByteLevel": 5, "Metaspace": 2, "WordPiece": 2}
_PARTS = ("normalizers", "pretokenizers", "decoders")  # of a step of type Sequence
_SAFE = frozenset(_FACTORS) - {"BertNormalizer"} | {"Prepend", "Digits", "Punctuation", "Whitespace"}
_SAFE |= {"WhitespaceSplit", "BertPreTokenizer", "UnicodeScripts", "ByteFallback", "BPEDecoder", "Fuse"}


def steps_of(component: Any) -> list[dict[str, Any]]:
    """The steps of one of the library's components, or of none, as a flat list."""
    return [] if component is None else list(_flat(json.loads(component.__getstate__())))


def _flat(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    parts = next((step[name] for name in _PARTS if name in step), None)
    if parts is None:
        yield step
    else:
        for part in parts:
            yield from _flat(part)


def growth(steps: list[dict[str, Any]], what: str) -> int:
    """How many times as long the steps may make a text. ModelError, of `what`, when they are too many or it is."""
    if len(steps) > MAX_STEPS:
        raise ModelError(f"tokenizer.json: its {what} has {len(steps):,} steps; preftree's limit is {MAX_STEPS}")
    found = prod(map(_factor, steps))
    if found > MAX_GROWTH:
        raise ModelError(
            f"tokenizer.json: its {what} can make a text {f'{found:,}' if found < 10**12 else 'endlessly many'} times "
            f"as long; preftree's limit is {MAX_GROWTH:,}; use the model's original tokenizer"
        )
    return found


def _factor(step: dict[str, Any]) -> int:
    kind = step.get("type")
    if kind == "Prepend":
        return 1 + len(step["prepend"])
    if kind == "Precompiled":
        return max(1, longest_replacement(base64.b64decode(step["precompiled_charsmap"])))
    if kind != "Replace":
        return _FACTORS.get(str(kind), 1)
    literal: str = step["pattern"].get("String", "")
    if literal:
        return max(1, ceil(len(step["content"]) / len(literal)))
    return 1 + len(step["content"])  # a regex may match between all characters


def may_panic(steps: Iterable[dict[str, Any]]) -> bool:
    """Whether any step is not known to be safe: a regex may backtrack without end, a table may point beyond itself."""
    return not all(map(_is_safe, steps))


def _is_safe(step: dict[str, Any]) -> bool:
    kind, pattern = step.get("type"), step.get("pattern") or {}
    if not all(step.get(name, True) for name in ("prepend", "content")):  # the library loses count of empty texts
        return False
    if kind in ("Replace", "Split"):
        return bool(pattern.get("String")) or is_known_regex(pattern.get("Regex", ""))
    if kind == "Strip":  # of a decoder; it may cut more than there is
        return step.get("stop") == 0
    return kind in _SAFE


def longest_replacement(rules: bytes) -> int:
    """Bytes of the longest text in a "precompiled" table of SentencePiece's normaliser, an empty one included.

    The table is the length of a trie, the trie, and texts that end in zeros.
    """
    return max(map(len, rules[4 + int.from_bytes(rules[:4], "little") :].split(b"\0")))


def check_tables(normalizer: Any) -> None:
    """ModelError for a "precompiled" table whose trie is longer than it: the library would ask for all its memory.

    normalizer: of a tokenizer.json, as parsed. The library finds tables without a type, too.
    """
    for key, value in normalizer.items() if isinstance(normalizer, dict) else ():
        if key == "precompiled_charsmap":
            _check_table(value)
        for part in value if isinstance(value, list) else [value]:
            check_tables(part)


def _check_table(encoded: Any) -> None:
    try:
        table = base64.b64decode(encoded, validate=True)
    except (TypeError, ValueError):
        table = b""
    size = int.from_bytes(table[:4], "little")
    if len(table) < 4 or size % 4 or size > len(table) - 4:
        raise ModelError("tokenizer.json: the table of its normalizer is damaged; download it again")
