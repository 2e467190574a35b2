"""A tokenizer.model of SentencePiece: its protobuf message, read here and checked first.

The library's own reader is C++ and wants the file to be well meant; of the message no more is needed than the pieces
and a few settings. Format: sentencepiece_model.proto in https://github.com/google/sentencepiece
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.engine.config.limits import LIMITS
from preftree.engine.errors import ModelError
from preftree.engine.files import naming, read_bytes
from preftree.engine.tokenizer.scored_pieces import BYTE, CONTROL, ScoredPieces

MAX_BYTES = 16_000_000  # published ones have up to five
VARINT, FIXED64, MESSAGE, FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) are not in use
UNIGRAM, BPE = 1, 2
MODEL_TYPES = {UNIGRAM: "unigram", BPE: "bpe", 3: "word", 4: "char"}
KINDS = range(1, 7)  # of pieces, see scored_pieces


@dataclass(frozen=True)
class SentencePieceModel:
    """bos, eos: the pieces that the file itself gives these roles, if they are control tokens."""

    pieces: ScoredPieces
    bos: str | None
    eos: str | None


class _Broken(Exception):
    """What is wrong, without the path."""


def read_sentencepiece(path: Path) -> SentencePieceModel:
    """ModelError, one line, for a file that is broken, or that tokenises in a way that preftree lacks."""
    raw = read_bytes(path, MAX_BYTES)
    try:
        with naming(path):
            return _model(raw)
    except _Broken as error:
        raise ModelError(f"{path}: {error}") from None


def _model(raw: bytes) -> SentencePieceModel:
    texts, scores, kinds = [], [], []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(raw):
        if number == 1:
            text, score, kind = _piece(value)
            texts.append(text)
            scores.append(score)
            kinds.append(kind)
            if len(texts) > LIMITS["vocab_size"]:
                raise _Broken(f"holds more than {LIMITS['vocab_size']:,} pieces")
        elif number == 2:
            trainer |= dict(_fields(_bytes(value)))
        elif number == 3:
            normalizer |= dict(_fields(_bytes(value)))
    if not texts:
        raise _Broken("holds no pieces: it is no SentencePiece model, or was damaged; download it again")
    _refuse_unsupported(trainer, normalizer)
    pieces = ScoredPieces(
        tuple(texts),
        tuple(scores),
        tuple(kinds),
        prefix=bool(normalizer.get(3, True)),
        trims=bool(normalizer.get(4, True)),
        byte_fallback=bool(trainer.get(35, False)) and BYTE in kinds,
    )

    def role(field: int, default: int) -> str | None:
        index = trainer.get(field, default)
        # Numbers are 64 bits, and -1 stands for "none".
        return texts[index] if type(index) is int and index < len(texts) and kinds[index] == CONTROL else None

    return SentencePieceModel(pieces, bos=role(41, 1), eos=role(42, 2))


def _refuse_unsupported(trainer: dict[int, Any], normalizer: dict[int, Any]) -> None:
    kind = trainer.get(3, UNIGRAM)
    if kind != BPE:
        raise _Broken(f"is a SentencePiece model of type {MODEL_TYPES.get(kind, kind)!r:.20}; preftree reads 'bpe'")
    if normalizer.get(2):
        name = normalizer.get(1, b"")
        named = name.decode(errors="replace") if isinstance(name, bytes) else "?"
        raise _Broken(f"normalises texts by the rules {named!r:.50}; preftree reads models with 'identity' only")
    if not normalizer.get(5, True) or trainer.get(24, False):
        raise _Broken("writes spaces otherwise than Llama's and Mistral's do, which is not supported")


def _piece(value: Any) -> tuple[str, float, int]:
    fields = dict(_fields(_bytes(value)))
    raw, score, kind = _bytes(fields.get(1)), fields.get(2, 0.0), fields.get(3, 1)
    if not raw or not isinstance(score, float) or kind not in KINDS:
        raise _Broken("holds a piece that is none (damaged); download it again")
    try:
        return raw.decode(), score, int(kind)
    except UnicodeDecodeError:
        raise _Broken("holds a piece that is not UTF-8 text; download it again") from None


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise _Broken("is no SentencePiece model, or was damaged; download it again")
    return value


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: int for numbers, float for four bytes, bytes for texts and messages."""
    position = 0
    while position < len(raw):
        tag, position = _varint(raw, position)
        number, wire = tag >> 3, tag & 7
        value: Any
        if wire == VARINT:
            value, position = _varint(raw, position)
        elif wire in (FIXED32, FIXED64, MESSAGE):
            length = {FIXED32: 4, FIXED64: 8}.get(wire)
            if length is None:
                length, position = _varint(raw, position)
            if length > len(raw) - position:
                raise _Broken("ends too early (truncated or damaged); download it again")
            value = raw[position : position + length]
            position += length
            if wire == FIXED32:
                (value,) = struct.unpack("<f", value)
        else:
            raise _Broken("is no SentencePiece model, or was damaged; download it again")
        yield number, value


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    """A number of up to ten bytes, seven bits in each, and where it ends."""
    result = 0
    for shift in range(0, 70, 7):
        if position >= len(raw):
            raise _Broken("ends too early (truncated or damaged); download it again")
        byte = raw[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
    raise _Broken("holds a number of more than 64 bits (damaged); download it again")
