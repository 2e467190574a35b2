"""A tekken.json for tests: entries trained here, after special tokens."""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Regex, pre_tokenizers

from tests.engine.tokenizer_families import GPT_4O, MAPPED_BYTES, sequence, split, trained
from tests.models import BYTE_CHARACTERS

NUM_SPECIAL = 40
NAMES = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[THINK]", "[/THINK]")


@cache
def entries() -> tuple[bytes, ...]:
    """The 256 bytes, and what merges made of README, in the order of their making."""
    vocab = trained(None, sequence(split(GPT_4O), MAPPED_BYTES))["model"]["vocab"]
    byte_of = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}
    made = [text for text in sorted(vocab, key=vocab.__getitem__) if len(text) > 1 and text not in ("<s>", "</s>")]
    joined = [bytes(byte_of[character] for character in text) for text in made if text != "<unk>"]
    return (*(bytes((byte,)) for byte in range(256)), *joined)


def tekken(version: str) -> dict[str, Any]:
    """As mistral-common writes one, with entries beyond the vocabulary's size."""
    size = NUM_SPECIAL + len(entries()) - 10
    vocab = [
        {"rank": rank, "token_bytes": base64.b64encode(entry).decode(), "token_str": None}
        for rank, entry in enumerate(entries())
    ]
    config = {"pattern": GPT_4O, "num_vocab_tokens": len(vocab), "default_vocab_size": size, "version": version}
    return {
        "config": config | {"default_num_special_tokens": NUM_SPECIAL},
        "vocab": vocab,
        "special_tokens": [{"rank": rank, "token_str": name, "is_control": True} for rank, name in enumerate(NAMES)],
    }


def write_tekken(directory: Path, version: str = "v7", **config: Any) -> Path:
    """config: changes to that of the file."""
    data = tekken(version)
    data["config"] |= config
    path = directory / "tekken.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def encoded(text: str) -> list[int]:
    """What tiktoken makes of a text: again and again the two neighbours that make the entry of lowest rank are joined,
    the first of them where there are several.
    """
    rank = {entry: place for place, entry in enumerate(entries()[:-10])}
    cut = pre_tokenizers.Split(Regex(GPT_4O), "isolated")
    ids: list[int] = []
    for word, _ in cut.pre_tokenize_str(text):
        whole = word.encode()
        parts = [whole] if whole in rank else [bytes((byte,)) for byte in whole]
        while len(parts) > 1:
            ranks = [rank.get(parts[place] + parts[place + 1], len(rank)) for place in range(len(parts) - 1)]
            lowest = min(ranks)
            if lowest == len(rank):
                break
            place = ranks.index(lowest)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        ids += [NUM_SPECIAL + rank[part] for part in parts]
    return ids
