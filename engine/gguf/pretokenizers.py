"""How byte-level tokenizers of GGUF files cut a text into words, by llama.cpp's names, as parts of a tokenizer.json.

The regular expressions are those of the models' own tokenizer.json.
"""

from typing import Any

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_MAPPED = {**BYTES, "use_regex": False}
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_NO_LETTER = r"[^\r\n\p{L}\p{N}]?"
_SPACES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS_OF_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"


def _split(*regexes: str) -> dict[str, Any]:
    steps = [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False} for regex in regexes
    ]
    return {"type": "Sequence", "pretokenizers": [*steps, _MAPPED]}


def _as_llama3(digits: str) -> dict[str, Any]:
    return _split(rf"{_CONTRACTIONS}|{_NO_LETTER}\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*{_SPACES}")


def _by_case(digits: str, ending: str = "") -> dict[str, Any]:
    """Words end where a capital follows a small letter."""
    words = rf"{_NO_LETTER}{_UPPER}*{_LOWER}+{ending}|{_NO_LETTER}{_UPPER}+{_LOWER}*{ending}"
    return _split(rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_SPACES}")


_LLAMA3, _QWEN2 = _as_llama3(r"\p{N}{1,3}"), _as_llama3(r"\p{N}")
_QWEN35 = _split(
    rf"{_CONTRACTIONS}|{_NO_LETTER}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*{_SPACES}"
)
_GPT4O = _by_case(r"\p{N}{1,3}", f"{_CONTRACTIONS}?")
_SEED = _split(rf"{_CONTRACTIONS}|{_NO_LETTER}\p{{L}}+|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+{_SPACES}")
_DEEPSEEK3 = _split(
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*{_SPACES}",
)
_DIGITS = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTES]}
PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": BYTES,
    "default": _split(r"[\p{P}\$\+<=>\^~\|]+", _WORDS_OF_GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r"), _DIGITS),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "smaug-bpe", "dbrx", "chatglm-bpe", "glm4"), _LLAMA3),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _QWEN2),
    "qwen35": _QWEN35,
    "tekken": _by_case(r"\p{N}"),
    **dict.fromkeys(("gpt-4o", "llama4"), _GPT4O),
    "seed-coder": _SEED,
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense"), _DEEPSEEK3),
}
# Their tokenizers look whole words up first, and put BOS in front where the file says nothing.
WHOLE_WORDS = ADDS_BOS = frozenset({"llama-bpe", "llama3", "llama-v3", "tekken"})
NORMALISED = frozenset({"qwen2", "deepseek-r1-qwen", "qwen35", "command-r"})
