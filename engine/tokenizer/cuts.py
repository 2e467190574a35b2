r"""Where a text may be cut such that its parts, tokenised one by one, give the ids of the whole.

A cut lies before the space in "letter space letter", all three ASCII. Write the text as u + v: u ends in a letter, v
begins with a space and a letter. The ids of u + v are those of u, then those of v inside a text, because

- the normaliser gives N(u) + N(v): a space composes with nothing before it.
- each step of the pre-tokeniser cuts there, or leaves one piece, u's last joined to v's first. No alternative of the
  regexes below matches a letter and then a space, looks behind, or looks further ahead than one character behind
  whitespace, in which u does not end. So matches left of the cut do not know of v, nor those right of it of u.
- where no step cuts, no entry of the vocabulary holds a letter and then a space. BPE joins neighbours into entries,
  never across the cut then, and what it does on one side does not depend on the other.
- v gets no mark of a beginning: all but one put it only where a text does not begin with a space. The one is the
  normaliser `Prepend`, for which v is given without its space, to get it back.

A tokenizer that is not known to fulfil all of it is never cut.
"""

import re
from collections.abc import Set
from string import ascii_letters
from typing import Any

from preftree.engine.tokenizer.encoder import Encode

Component = dict[str, Any] | None  # a normaliser or pre-tokeniser in tokenizer.json

_CUT = re.compile("[A-Za-z](?= [A-Za-z])")
_LETTERS = frozenset(ascii_letters)
_UNICODE_FORMS = frozenset({"NFC", "NFD", "NFKC", "NFKD"})
_MODEL_KEYS = frozenset(
    {"type", "vocab", "merges", "unk_token", "dropout", "fuse_unk", "byte_fallback", "ignore_merges"}
    | {"continuing_subword_prefix", "end_of_word_suffix"}
)
# Alternatives of the regexes of GPT-2, GPT-4, Llama 3, Qwen 2 and 3, GPT-4o and Tekken, without possessive signs.
_FIRST, _UPPER, _LOWER = r"[^\r\n\p{L}\p{N}]?", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = (  # each matches whatever letter it meets, so with one of them there is always a cut
    r" ?\p{L}+",
    rf"{_FIRST}\p{{L}}+",
    rf"{_FIRST}[\p{{L}}\p{{M}}]+",
    rf"{_FIRST}{_UPPER}*{_LOWER}+|{_FIRST}{_UPPER}+{_LOWER}*",
    rf"{_FIRST}{_UPPER}*{_LOWER}+{_CONTRACTION}?|{_FIRST}{_UPPER}+{_LOWER}*{_CONTRACTION}?",
)
_OTHERS = (
    _CONTRACTION,
    "'(?i:[sdmt]|ll|ve|re)",
    "'s|'t|'re|'ve|'m|'ll|'d",
    r"\p{N}",
    r"\p{N}{1,3}",
    r" ?\p{N}+",
    r" ?[^\s\p{L}\p{N}]+",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
    r"\s*[\r\n]+",
    r"\s*[\r\n]",
    r"\s+(?!\S)",
    r"\s+",
)
_ALTERNATIVE = f"(?:{'|'.join(map(re.escape, _WORDS + _OTHERS))})"
_KNOWN_REGEX = re.compile(rf"{_ALTERNATIVE}(?:\|{_ALTERNATIVE})*")

# The library is asked whether it agrees: contractions, digits, signs, whitespace, marks and other scripts near cuts.
_PROBES = (
    "it's we'll I'M a b 12 c d 3x y (z a) b.",
    "  a  b\n c d \n\n e f\t g h\r\n i j  ",
    "caf\u00e9 au lait cafe\u0301 ole e\u0301 e f, na\u00efve x y\u0308 z w",
    "\u6f22\u5b57 a b \u6f22\u5b57c d\u6f22 \ud55c\uad6d e f \u05e9\u05dc g h \U0001f600 i j\U0001f600 k l",
    "New York City is a place in the US of A as of now",
)


def first_cut(text: str, begin: int) -> int | None:
    """The first cut behind `begin`: the place of its space."""
    match = _CUT.search(text, begin)
    return match.end() if match else None


def cuts_hold(whole: Encode, inside: Encode) -> bool:
    """Whether some hard texts give the same ids as a whole and cut at each of their cuts."""
    return all(
        whole(text[: match.end()]) + inside(text[match.end() :]) == whole(text)
        for text in _PROBES
        for match in _CUT.finditer(text)
    )


def characters_to_drop(data: dict[str, Any]) -> int | None:
    """Whether the tokenizer of a tokenizer.json may be cut: None for no.

    Otherwise how many characters a part behind a cut loses in front before it is encoded inside a text: 0, or 1 for its
    space. Added tokens may be there only if they are whitespace; none matches within a cut, but for a single space.
    """
    if any(token["content"] in (" ", "▁") for token in data.get("added_tokens") or []):
        return None
    space = " "
    prepended = ""
    for step in _steps(data.get("normalizer"), "normalizers"):
        kind = step.get("type")
        if kind == "Replace" and step.get("pattern") == {"String": " "} and step.get("content") == "▁":
            space = "▁"
        elif kind == "Prepend":
            prepended += step.get("prepend", "")
        elif kind not in _UNICODE_FORMS:
            return None
    space_in_vocabulary, always_cut = _pre_tokenised(data.get("pre_tokenizer"), space)
    model = data.get("model") or {}
    if space_in_vocabulary is None or prepended not in ("", space) or not _is_plain_bpe(model):
        return None
    if not always_cut and not _stays_apart(model, space_in_vocabulary):
        return None
    return len(prepended)


def _steps(component: Component, parts: str) -> list[dict[str, Any]]:
    """A normaliser or pre-tokeniser as a flat list."""
    if component is None:
        return []
    if component.get("type") != "Sequence":
        return [component]
    return [step for part in component.get(parts, []) for step in _steps(part, parts)]


def _pre_tokenised(component: Component, space: str) -> tuple[str | None, bool]:
    """What the normalised `space` is in the vocabulary, or None; whether words are always cut in front of it."""
    always_cut = mapped = False
    for step in _steps(component, "pretokenizers"):
        kind = step.get("type")
        if mapped:  # whatever comes now sees other characters than the arguments above
            return None, False
        if kind == "Split":
            known, cuts = _split(step, space)
            if not known:
                return None, False
            always_cut |= cuts
        elif kind == "ByteLevel" and space == " ":
            always_cut |= step.get("use_regex", True)
            space, mapped = "Ġ", True
        elif kind == "Metaspace" and step.get("replacement") == "▁":
            always_cut |= step.get("split", True)
            space, mapped = "▁", True
        elif kind != "Digits":
            return None, False
    return space, always_cut


def _split(step: dict[str, Any], space: str) -> tuple[bool, bool]:
    """Whether a step of type Split is known, and whether it always cuts."""
    pattern = step.get("pattern") or {}
    if pattern == {"String": " "}:
        return space != " ", False  # Gemma's: there is no such space left
    if (step.get("behavior"), step.get("invert")) not in (("Isolated", False), ("Removed", True)):
        return False, False
    regex = pattern.get("Regex", "")
    return space == " " and is_known_regex(regex), any(word in _greedy(regex) for word in _WORDS)


def is_known_regex(regex: str) -> bool:
    """Whether it is one of those that published models cut words with: they take time in proportion to the text."""
    return bool(_KNOWN_REGEX.fullmatch(_greedy(regex)))


def _greedy(regex: str) -> str:
    """`regex` without possessive signs."""
    return regex.replace("++", "+").replace("?+", "?")


def _is_plain_bpe(model: dict[str, Any]) -> bool:
    return model.get("type") == "BPE" and not model.get("dropout") and model.keys() <= _MODEL_KEYS


def _stays_apart(model: dict[str, Any], space: str) -> bool:
    """Whether BPE itself never joins a letter and the space behind it, if both are in one word."""
    whole_words = any(model.get(key) for key in ("ignore_merges", "continuing_subword_prefix", "end_of_word_suffix"))
    return not whole_words and letters_stay_apart((model.get("vocab") or {}).keys(), space)


def letters_stay_apart(vocabulary: Set[str], space: str) -> bool:
    """Whether no entry holds a letter and then a space. An unknown one of them could vanish, or join its neighbour."""
    before_spaces = {part[-1:] for part in "\n".join(vocabulary).split(space)[:-1]}
    return vocabulary >= _LETTERS | {space} and before_spaces.isdisjoint(_LETTERS)
