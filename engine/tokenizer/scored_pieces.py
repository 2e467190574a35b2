"""The vocabularies of SentencePiece's BPE, as a tokenizer.json: from a tokenizer.model or from a GGUF file.

SentencePiece joins the two neighbours whose joint piece has the highest score, the leftmost of equals. A tokenizer.json
says the same by a list of pairs, best first: every way to cut a piece into two pieces, by the piece's score.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from preftree.engine.errors import ModelError

# Kinds of pieces, numbered alike in SentencePiece and in GGUF. Only normal ones are joined from others.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPACE = "▁"
# Bounds of the work: published vocabularies have some 250,000 pieces of at most 31 characters.
MAX_PIECE_CHARACTERS = 256
MAX_CHARACTERS = 16_000_000
_BYTE_PIECES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


@dataclass(frozen=True)
class ScoredPieces:
    """A vocabulary by id: texts, scores and kinds. ModelError for one that no tokenizer could come from.

    prefix: a text gets a space in front. trims: runs of spaces become one, those at the ends go. byte_fallback:
    characters without a piece become bytes.
    """

    texts: tuple[str, ...]
    scores: tuple[float, ...]
    kinds: tuple[int, ...]
    prefix: bool = True
    trims: bool = False
    byte_fallback: bool = True

    def __post_init__(self) -> None:
        if not len(self.texts) == len(self.scores) == len(self.kinds):
            raise ModelError("the vocabulary has another number of pieces than of scores or types; download it again")
        if len(set(self.texts)) != len(self.texts):
            raise ModelError("the vocabulary holds a piece twice; download it again")
        if not all(map(math.isfinite, self.scores)):
            raise ModelError("the vocabulary holds a score that is no number; download it again")
        lengths = [len(text) for text in self.texts]
        if not lengths or max(lengths) > MAX_PIECE_CHARACTERS or sum(lengths) > MAX_CHARACTERS:
            raise ModelError(
                f"the vocabulary is empty, absurdly large or has pieces above {MAX_PIECE_CHARACTERS} letters"
            )
        if self.byte_fallback:
            if {f"<0x{byte:02X}>" for byte in range(256)} - {text for text, _ in self._of_kind(BYTE)}:
                raise ModelError("the vocabulary lacks some of the 256 bytes that unknown characters become")
        elif UNKNOWN not in self.kinds:
            raise ModelError("the vocabulary has no piece for unknown characters")

    def tokenizer_json(self, extra: dict[str, int] | None = None) -> dict[str, Any]:
        """As a tokenizer.json; `extra` are more control tokens with their ids."""
        vocab = {text: index for index, text in enumerate(self.texts)} | (extra or {})
        whole = sorted((text for text, kind in self._of_kind(USER_DEFINED) if is_blank(text)), key=len, reverse=True)
        unknown = next((text for text, _ in self._of_kind(UNKNOWN)), None)
        control = {text: vocab[text] for text, kind in self._of_kind(CONTROL, USER_DEFINED) if text not in whole}
        if unknown is not None and self.byte_fallback:
            control[unknown] = vocab[unknown]
        control |= extra or {}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {"id": index, "content": text, **_FLAGS, "special": True}
                for text, index in sorted(control.items(), key=lambda item: item[1])
            ],
            "normalizer": self._normalizer(),
            # Runs of whitespace that the file declares as wholes are never joined with anything around them.
            "pre_tokenizer": _isolated(whole) if whole else None,
            "post_processor": None,
            "decoder": self._decoder(),
            "model": {
                "type": "BPE",
                "vocab": vocab,
                "merges": self._merges(),
                "unk_token": unknown,
                "fuse_unk": True,
                "byte_fallback": self.byte_fallback,
                "ignore_merges": bool(whole),
            },
        }

    def _of_kind(self, *kinds: int) -> list[tuple[str, int]]:
        return [(text, kind) for text, kind in zip(self.texts, self.kinds, strict=True) if kind in kinds]

    def _merges(self) -> list[list[str]]:
        normal = {
            text: score for text, score, kind in zip(self.texts, self.scores, self.kinds, strict=True) if kind == NORMAL
        }
        merges = []
        for text in sorted(normal, key=lambda text: -normal[text]):  # stable: of equal scores, the lower id
            halves = ((text[:cut], text[cut:]) for cut in range(1, len(text)))
            merges += [[left, right] for left, right in halves if left in normal and right in normal]
        return merges

    def _normalizer(self) -> dict[str, Any] | None:
        steps: list[dict[str, Any]] = []
        if self.trims:  # of spaces only: other whitespace is text. At the end written ones count, too
            steps.append({"type": "Replace", "pattern": {"Regex": rf"\A +|[ {SPACE}]+\z"}, "content": ""})
            steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
        if self.prefix:
            steps.append({"type": "Prepend", "prepend": SPACE})
        steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
        return {"type": "Sequence", "normalizers": steps}

    def _decoder(self) -> dict[str, Any]:
        space = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
        steps: list[dict[str, Any]] = [space, {"type": "ByteFallback"}, {"type": "Fuse"}]
        if self.prefix:
            steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
        return {"type": "Sequence", "decoders": steps}


def is_blank(text: str) -> bool:
    """Whether a token is nothing but whitespace. Such tokens control nothing, whatever their kind."""
    return not text.replace(SPACE, " ").strip()


def _isolated(wholes: list[str]) -> dict[str, Any]:
    pattern = "|".join(re.escape(whole) for whole in wholes)
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
