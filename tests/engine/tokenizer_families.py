"""Tokenizers of every family that may be cut, trained here, and texts that are hard to cut."""

import json
import random
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import models, trainers

from preftree.engine.tokenizer.hf import JsonBackend
from preftree.engine.tokenizer.incremental import SharedText
from preftree.engine.tokenizer.tokenizer import Tokenizer
from tests.models import BYTE_CHARACTERS, tokenizer_data

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace("{1,3}", "")
GPT_4 = LLAMA_3.replace(r"?\p{L}+", r"?+\p{L}+").replace("]+[", "]++[")
GPT_4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
MAPPED_BYTES = BYTES | {"use_regex": False}
PREPEND = {"type": "Prepend", "prepend": "▁"}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
MERGED_SPACES = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def sequence(*steps: dict[str, Any], parts: str = "pretokenizers") -> dict[str, Any]:
    return {"type": "Sequence", parts: list(steps)}


def split(regex: str, behavior: str = "Isolated", invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def metaspace(scheme: str, cut: bool) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": cut}


# Normaliser, pre-tokeniser and changes to the model, of tokenizers that may be cut.
FAMILIES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "gpt-2": (None, BYTES, {}),
    "gpt-2 split, prefix space": (None, sequence(split(GPT2), MAPPED_BYTES | {"add_prefix_space": True}), {}),
    "smollm": (None, sequence({"type": "Digits", "individual_digits": True}, BYTES), {}),
    "llama 3": (None, sequence(split(LLAMA_3), MAPPED_BYTES), {"ignore_merges": True}),
    "gpt-4": ({"type": "NFKC"}, sequence(split(GPT_4, "Removed", True), MAPPED_BYTES), {}),
    "gpt-4o": ({"type": "NFD"}, sequence(split(GPT_4O), MAPPED_BYTES), {}),
    "qwen": ({"type": "NFC"}, sequence(split(QWEN_2), MAPPED_BYTES), {}),
    "bytes in one word": (None, sequence(split(r"\p{N}{1,3}"), MAPPED_BYTES), {}),
    "llama 2": (sequence(PREPEND, REPLACE, parts="normalizers"), None, {"fuse_unk": True}),
    "metaspace first": (None, metaspace("first", False), {}),
    "metaspace always": ({"type": "NFKC"}, metaspace("always", True), {}),
    "gemma": (REPLACE, MERGED_SPACES, {}),
}


def corpus() -> list[str]:
    root = Path(__file__).parents[2]
    return [*(root / "README.md").read_text().split("\n"), *(root / "examples" / "pairs.jsonl").read_text().split("\n")]


def trained(normalizer: Any, pre_tokenizer: Any, **changes: Any) -> dict[str, Any]:
    """A tokenizer.json with merges as they come from text; `changes` are made to its model."""
    has_bytes = "ByteLevel" in json.dumps(pre_tokenizer)
    backend = Backend(models.BPE(unk_token=None if has_bytes else "<unk>"))
    words = split(LLAMA_3)
    steps = sequence(words, MAPPED_BYTES) if has_bytes else metaspace("always", True)
    backend.pre_tokenizer = Backend.from_str(json.dumps(tokenizer_data(pre_tokenizer=steps))).pre_tokenizer
    alphabet = BYTE_CHARACTERS if has_bytes else [chr(code) for code in range(33, 127)]
    special = ["<s>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=1200, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(corpus(), trainer)
    data = json.loads(backend.to_str())
    return data | {
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "added_tokens": [token for token in data["added_tokens"] if token["content"] in special[:2]],
        "model": data["model"] | changes,
    }


def load(data: dict[str, Any]) -> Tokenizer:
    return Tokenizer(JsonBackend(data), "<s>", "</s>", None)


def cuts(tokenizer: Tokenizer) -> bool:
    return tokenizer._shared._behind_cut is not None


class Whole:
    """The same tokenizer, but every text is encoded as a whole."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, pieces: list[str | int]) -> list[int]:
        shared, self._tokenizer._shared = self._tokenizer._shared, SharedText(None, self._tokenizer._control_ids)
        try:
            return self._tokenizer.encode(pieces)
        finally:
            self._tokenizer._shared = shared


FRAGMENTS = [
    *(" the", " of", "ing", "s", "t", "it's", "we'll", "I'M", " don't", "e", " a", " A b", "Response 1:", " New York"),
    *(" ", "  ", "\n", "\n\n", "\t ", "\r\n", "\u00a0", "\u3000", "\u2028", "\u200b", "\ufeff", "\x00", "\x85"),
    *("0", "12", " 345", "6th", "½", "٣", "x2", ".", ", ", " (", ")", "...", "“", "’s", "—", "**", "▁", "Ġ", "_"),
    *("é", "e\u0301", "\u0301", " \u0308", "ﬁ", "Å", "K", "ſ", "ß", "İ", "naïve", "漢字", "かな", "한국어", "한"),
    *("שלום", "नमस्ते", "ไทย", "русский язык", "😀", "👩‍👩‍👧", " 🦜", "<s>", "</s>", "<|im_end|>"),
]


def chains(seed: int, count: int) -> list[list[str]]:
    """Lists of texts, each of which begins like the one before or the one before that."""
    rng = random.Random(seed)
    result = []
    for _ in range(count):
        texts = ["", ""]
        for _ in range(rng.randrange(2, 7)):
            earlier = rng.choice(texts[-2:])
            words = rng.choices(FRAGMENTS, k=rng.randrange(25))
            joined = "".join(" " * rng.randrange(2) + word for word in words) if rng.random() < 0.7 else "".join(words)
            texts.append(earlier[: rng.randrange(len(earlier) + 1)] + joined)
        result.append(texts[2:])
    return result


def check(tokenizer: Tokenizer, chain: list[str]) -> None:
    whole = Whole(tokenizer)
    for text in chain:
        cases: list[list[str | int]] = [[text], [0, text], [0, text, 1, text[::-1]]]
        for pieces in cases:
            assert tokenizer.encode(pieces) == whole.encode(pieces), repr(chain)
