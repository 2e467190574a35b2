"""SentencePiece's vocabularies, BPE and Unigram, with their normalisers: of a tokenizer.model or of a GGUF file.

The `sentencepiece` library reads and encodes. Before it does, its protobuf message is gone through here, with bounds:
kinds of pieces decide what control tokens are, and a piece that SentencePiece would find in texts though it is one
("user-defined") becomes a control piece, which it never finds.
Format: sentencepiece_model.proto in https://github.com/google/sentencepiece
"""

import os
import struct
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor

from preftree.engine.config.limits import LIMITS
from preftree.engine.errors import ModelError
from preftree.engine.files import first_line, naming, read_bytes
from preftree.engine.tokenizer.cuts import letters_stay_apart
from preftree.engine.tokenizer.encoder import Encode, Encoder
from preftree.engine.tokenizer.growth import longest_replacement

MAX_BYTES = 16_000_000  # published ones have up to five
# Bounds of the work for a text: published pieces have up to 31 characters, replacements of NFKC 33 bytes.
MAX_PIECE_CHARACTERS = MAX_REPLACEMENT_BYTES = 256
MAX_THREADS = 8  # the library starts them anew for each call
MAX_SCORE = 1e30  # sums of scores stay finite
VARINT, FIXED64, MESSAGE, FIXED32 = 0, 1, 2, 5  # wire types; groups (3, 4) are not in use
UNIGRAM, BPE = 1, 2
MODEL_TYPES = {UNIGRAM: "Unigram", BPE: "BPE", 3: "WORD", 4: "CHAR"}
# Kinds of pieces, numbered alike in SentencePiece and in GGUF.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
DAMAGED = "is no SentencePiece model, or was damaged; download it again"
BOS, EOS = (41, 1), (42, 2)  # fields of a TrainerSpec that hold ids, and their defaults
SPACE = "▁"
NO_PREFIX, KEEPS_SPACES, TRIMS = b"\x18\x00", b"\x20\x00", b"\x20\x01"  # fields of a NormalizerSpec


class Pieces:
    """A vocabulary by id, and how it is used.

    Attributes:
        model_type: a key of MODEL_TYPES, if the library takes it.
        has_bytes: whether unknown characters become bytes.
        has_prefix: whether a text gets a space in front.
        keeps_texts: whether nothing else in a text is changed, but that spaces become SPACE.
    """

    def __init__(
        self,
        texts: tuple[str, ...],
        scores: tuple[float, ...],
        kinds: tuple[int, ...],
        trainer: bytes = b"\x18\x02\x98\x02\x01",
        normalizer: bytes = KEEPS_SPACES,
    ) -> None:
        """trainer: a TrainerSpec message; by default BPE, and unknown characters become bytes. normalizer: a
        NormalizerSpec message. ModelError for what the library would take and should not.
        """
        if not len(texts) == len(scores) == len(kinds):
            raise ModelError("the vocabulary has another number of pieces than of scores or types; download it again")
        if not texts or max(map(len, texts)) > MAX_PIECE_CHARACTERS:
            raise ModelError(f"the vocabulary is empty or has pieces above {MAX_PIECE_CHARACTERS} letters")
        if not all(abs(score) < MAX_SCORE for score in scores):  # false for NaN, too
            raise ModelError("the vocabulary holds a score that is no number; download it again")
        self.texts, self.scores, self.kinds = texts, scores, kinds
        self._trainer, self._normalizer = trainer, normalizer
        self._settings, changes = dict(_fields(trainer)), dict(_fields(normalizer))
        rules = _bytes(changes.get(2, b""))
        if longest_replacement(rules) > MAX_REPLACEMENT_BYTES:
            raise ModelError("the vocabulary normalises single characters to long texts; download it again")
        if not _number(changes, 5, 1) or _number(self._settings, 24, 0):
            raise ModelError("writes spaces otherwise than Llama's and Mistral's do, which is not supported")
        self.model_type = _number(self._settings, 3, UNIGRAM)
        self.has_bytes = bool(_number(self._settings, 35, 0))
        self.has_prefix = bool(_number(changes, 3, 1))
        self.keeps_texts = not rules and not _number(changes, 4, 1)

    def role(self, field: int, default: int) -> str | None:
        """The piece that the file itself makes BOS or EOS, if it is a control token."""
        index = _number(self._settings, field, default)
        # Numbers are 64 bits, and -1 stands for "none".
        return self.texts[index] if index < len(self.texts) and self.kinds[index] == CONTROL else None

    def without_prefix(self) -> "Pieces":
        return Pieces(self.texts, self.scores, self.kinds, self._trainer, self._normalizer + NO_PREFIX)

    def control(self) -> dict[str, int]:
        """The pieces that no text gives. User-defined ones are, unless they are nothing but whitespace."""
        hidden = {CONTROL, UNKNOWN} if self.has_bytes else {CONTROL}
        return {
            text: index
            for index, (text, kind) in enumerate(zip(self.texts, self.kinds, strict=True))
            if kind in hidden or (kind == USER_DEFINED and not is_blank(text))
        }

    def processor(self) -> SentencePieceProcessor:
        """The library's, which finds no control token in a text. ModelError, in its words, when it refuses to."""
        message = bytearray()
        for text, score, kind in zip(self.texts, self.scores, self.kinds, strict=True):
            kind = CONTROL if kind == USER_DEFINED and not is_blank(text) else kind
            message += _message(1, _message(1, text.encode()) + struct.pack("<Bf2B", 0x15, score, 0x18, kind))
        if self.has_bytes and UNKNOWN not in self.kinds:  # the library wants one, though no text gives it
            message += _message(1, _message(1, b"<unknown of preftree>") + bytes((0x18, UNKNOWN)))
        message += _message(2, self._trainer) + _message(3, self._normalizer)
        try:
            return SentencePieceProcessor(model_proto=bytes(message))
        except RuntimeError as error:
            raise ModelError(f"the sentencepiece library refuses it ({first_line(error)}); download it again") from None


class SentencePieceBackend:
    """See `preftree.engine.tokenizer.tokenizer.Backend`.

    Texts that begin alike share what is encoded (`behind_cut`) for BPE that changes no text: the argument in
    `preftree.engine.tokenizer.cuts` is of BPE alone. Unigram adds up scores from the beginning of a text on, and what
    is rounded there decides between segmentations that are almost equally good; so its texts stay whole, as do those
    that are normalised.
    """

    first_ids: tuple[int, ...] = ()
    growth = 1  # MAX_REPLACEMENT_BYTES bounds it, and published ones keep far below

    def __init__(self, pieces: Pieces, extra: dict[str, int], *, prefix_once: bool) -> None:
        """extra: more control tokens. prefix_once: the space in front of texts is for the prompt's first only."""
        whole = pieces.processor()
        bare = pieces.without_prefix().processor() if pieces.has_prefix else whole
        self.kind = MODEL_TYPES.get(pieces.model_type, "SentencePiece")
        self.control = pieces.control() | extra
        self.added: list[dict[str, Any]] = [{"content": text} for text in self.control]
        self.size = max([len(pieces.texts), *(index + 1 for index in self.control.values())])
        self.begin: Encode = _encoder(whole)
        self.inside: Encode = _encoder(bare if prefix_once else whole)
        of_kind = list(zip(pieces.texts, pieces.kinds, strict=True))
        joined = {text for text, kind in of_kind if kind in (NORMAL, UNUSED)}
        can_be_cut = pieces.model_type == BPE and pieces.keeps_texts and letters_stay_apart(joined, SPACE)
        self.behind_cut: Encode | None = _encoder(bare) if can_be_cut else None
        self._ids = {text: index for index, text in enumerate(pieces.texts)} | extra
        self._names = {index: text for text, index in self.control.items()}
        self._decode, self._num_pieces = whole.decode, len(pieces.texts)
        letters = (index for index, (text, kind) in enumerate(of_kind) if kind == NORMAL and SPACE not in text)
        self._middle = list(islice(letters, 1))

    def token_id(self, token: str) -> int | None:
        return self._ids.get(token)

    def decode(self, ids: Iterable[int]) -> str:
        """As the library does, which drops the space in front of a text; behind a control token it stays."""
        parts: list[str] = []
        before: list[int] = []
        for is_control, run in groupby(ids, self._names.__contains__):
            if is_control:
                parts += (self._names[index] for index in run)
            else:
                known = [index for index in run if index < self._num_pieces]
                parts.append(self._decode([*before, *known])[len(self._decode(before)) :])
            before = self._middle
        return "".join(parts)


def _encoder(processor: SentencePieceProcessor) -> Encoder:
    def many(texts: list[str]) -> list[list[int]]:
        found: list[list[int]] = processor.encode(texts, num_threads=min(len(texts), os.cpu_count() or 1, MAX_THREADS))
        return found

    return Encoder(processor.encode, many)


def is_blank(text: str) -> bool:
    """Whether a token is nothing but whitespace. Such tokens control nothing, whatever their kind."""
    return not text.replace(SPACE, " ").strip()


def read_sentencepiece(path: Path) -> Pieces:
    """ModelError, one line, for a file that is broken, or that preftree does not read."""
    raw = read_bytes(path, MAX_BYTES)
    with naming(path):
        texts, scores, kinds = [], [], []
        specs = {2: bytearray(), 3: bytearray()}  # parts of a message that come one by one make one
        for number, value in _fields(raw):
            if number == 1:
                text, score, kind = _piece(value)
                texts.append(text)
                scores.append(score)
                kinds.append(kind)
                if len(texts) > LIMITS["vocab_size"]:
                    raise ModelError(f"holds more than {LIMITS['vocab_size']:,} pieces")
            elif number in specs:
                specs[number] += _bytes(value)
        if not texts:
            raise ModelError("holds no pieces: " + DAMAGED)
        return Pieces(tuple(texts), tuple(scores), tuple(kinds), bytes(specs[2]), bytes(specs[3]))


def _piece(value: Any) -> tuple[str, float, int]:
    fields = dict(_fields(_bytes(value)))
    raw, score, kind = _bytes(fields.get(1)), fields.get(2, 0.0), fields.get(3, 1)
    if not raw or not isinstance(score, float) or kind not in range(1, 7):
        raise ModelError("holds a piece that is none (damaged); download it again")
    try:
        return raw.decode(), score, int(kind)
    except UnicodeDecodeError:
        raise ModelError("holds a piece that is not UTF-8 text; download it again") from None


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ModelError(DAMAGED)
    return value


def _number(fields: dict[int, Any], field: int, default: int) -> int:
    value = fields.get(field, default)
    return value if isinstance(value, int) else default


def _message(number: int, content: bytes) -> bytes:
    """A field of bytes, text or a message."""
    length, size = len(content), bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((number << 3 | MESSAGE, *size, length)) + content


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: int for numbers, float for four bytes, bytes for texts and messages."""
    position = 0
    while position < len(raw):
        tag, position = _varint(raw, position)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, position = _varint(raw, position)
            yield number, value
            continue
        if wire not in (FIXED32, FIXED64, MESSAGE):
            raise ModelError(DAMAGED)
        length, position = _varint(raw, position) if wire == MESSAGE else (4 if wire == FIXED32 else 8, position)
        if length > len(raw) - position:
            raise ModelError("ends too early (truncated or damaged); download it again")
        content = raw[position : position + length]
        yield number, struct.unpack("<f", content)[0] if wire == FIXED32 else content
        position += length


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    """A number of up to ten bytes, seven bits in each, and where it ends."""
    result = 0
    for shift, byte in zip(range(0, 70, 7), raw[position : position + 10], strict=False):
        result |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return result, position
    raise ModelError("ends too early, or holds a number of more than 64 bits (damaged); download it again")
