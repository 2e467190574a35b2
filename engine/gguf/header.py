"""The header of a GGUF file (v2, v3): metadata and the places of the tensors, every length checked first.

The gguf library's own reader (0.19) trusts lengths: a crafted array keeps it busy for ever. So the header is
read here, once, and the library is left with the arithmetic of dequantising.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import math
import mmap
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from preftree.engine.errors import ModelError
from preftree.engine.files import opened

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MAX_DIMENSIONS = 4
# Bounds of time and memory; the largest known header has 1.3 million items in its arrays, of vocabulary and merges.
MAX_ITEMS = 1 << 21
MAX_KEYS, MAX_TENSORS = 1 << 16, 1 << 17
MAX_STRING_BYTES = 1 << 24

# Type number -> (name, elements in a block, bytes of a block): all that the gguf library dequantises, and plain floats.
TENSOR_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies. `shape` has rows first, as in PyTorch; `begin` and `end` are bytes in the file."""

    path: Path
    type_number: int
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class GgufHeader:
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


class _Broken(Exception):
    """What is wrong, without the path."""


class _Cursor:
    """Reads forward through a buffer and never past its end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self.data, self.path, self.position, self.size = data, path, 0, len(data)
        self.items = MAX_ITEMS

    def need(self, count: int, item_bytes: int, what: str) -> None:
        """_Broken unless `count` items of at least `item_bytes` can still follow: bounds every loop below."""
        if count * item_bytes > self.size - self.position:
            raise _Broken(f"{what} ends outside the file (truncated or damaged)")

    def scalars(self, code: str, count: int, what: str) -> tuple[Any, ...]:
        layout = struct.Struct(f"<{count}{code}")
        self.need(1, layout.size, what)
        values = layout.unpack_from(self.data, self.position)
        self.position += layout.size
        return values

    def number(self, code: str, what: str) -> Any:
        return self.scalars(code, 1, what)[0]

    def string(self, what: str) -> str:
        length = self.number("Q", what)
        self.need(length, 1, what)
        if length > MAX_STRING_BYTES:
            raise _Broken(f"{what} has {length} bytes; preftree reads at most {MAX_STRING_BYTES}")
        raw = self.data[self.position : self.position + length]
        self.position += length
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise _Broken(f"{what} is not UTF-8 text") from None

    def value(self, kind: int, what: str) -> Any:
        if kind == STRING:
            return self.string(what)
        if kind in SCALARS:
            return self.number(SCALARS[kind], what)
        if kind != ARRAY:
            raise _Broken(f"{what} has the unknown type {kind}")
        item_kind, count = self.number("I", what), self.number("Q", what)
        if count > self.items:
            raise _Broken(f"{what} has {count} items; preftree reads at most {MAX_ITEMS} in all")
        self.items -= count
        if item_kind in SCALARS:
            self.need(count, struct.calcsize(f"<{SCALARS[item_kind]}"), what)
            return list(self.scalars(SCALARS[item_kind], count, what))
        if item_kind != STRING:
            raise _Broken(f"{what} is an array of type {item_kind}, which is not supported")
        self.need(count, 8, what)
        return [self.string(what) for _ in range(count)]


def _metadata(cursor: _Cursor, count: int) -> dict[str, Any]:
    cursor.need(count, 13, "the metadata")  # key length, value type and one byte of value
    if count > MAX_KEYS:
        raise _Broken(f"has {count} metadata keys; preftree reads at most {MAX_KEYS}")
    metadata: dict[str, Any] = {}
    for _ in range(count):
        key = cursor.string("a metadata key")
        if key in metadata:
            raise _Broken(f"the metadata key {key!r:.100} appears twice")
        metadata[key] = cursor.value(cursor.number("I", "a metadata type"), f"the metadata {key!r:.100}")
    return metadata


def _place(cursor: _Cursor, name: str) -> GgufTensor:
    """One tensor's line; its bytes still count from the start of the tensor data."""
    what = f"tensor {name!r:.100}"
    dimensions = cursor.number("I", what)
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise _Broken(f"{what} has {dimensions} dimensions")
    shape = tuple(reversed(cursor.scalars("Q", dimensions, what)))
    kind, begin = cursor.number("I", what), cursor.number("Q", what)
    if kind not in TENSOR_TYPES:
        known = ", ".join(label for label, _, _ in TENSOR_TYPES.values())
        raise _Broken(f"{what} has type number {kind}; preftree reads {known}")
    _, block, block_bytes = TENSOR_TYPES[kind]
    if 0 in shape or shape[-1] % block:
        raise _Broken(f"{what} has the impossible shape {shape}")
    return GgufTensor(cursor.path, kind, shape, begin, begin + math.prod(shape) // block * block_bytes)


def _tensors(cursor: _Cursor, count: int, alignment: Any) -> dict[str, GgufTensor]:
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise _Broken(f"general.alignment is {alignment!r:.100}, which is no power of two")
    cursor.need(count, 32, "the list of tensors")
    if count > MAX_TENSORS:
        raise _Broken(f"has {count} tensors; preftree reads at most {MAX_TENSORS}")
    places: dict[str, GgufTensor] = {}
    for _ in range(count):
        name = cursor.string("a tensor name")
        if name in places:
            raise _Broken(f"tensor {name!r:.100} appears twice")
        places[name] = _place(cursor, name)
    start = -(-cursor.position // alignment) * alignment
    tensors = {}
    for name, place in places.items():
        begin, end = start + place.begin, start + place.end
        if end > cursor.size:
            raise _Broken(f"tensor {name!r:.100} ends outside the file (truncated or damaged)")
        tensors[name] = replace(place, begin=begin, end=end)
    return tensors


def _parse(data: mmap.mmap, path: Path) -> GgufHeader:
    cursor = _Cursor(data, path)
    if data[:4] != b"GGUF":
        raise _Broken("is no GGUF file")
    cursor.position = 4
    version = cursor.number("I", "the header")
    if version not in (2, 3):
        raise _Broken(f"is GGUF version {version} or big-endian; preftree reads little-endian versions 2 and 3")
    tensor_count, metadata_count = cursor.scalars("Q", 2, "the header")
    metadata = _metadata(cursor, metadata_count)
    return GgufHeader(metadata, _tensors(cursor, tensor_count, metadata.get("general.alignment", 32)))


def read_header(path: Path) -> GgufHeader:
    """Metadata and tensor places of a GGUF file. ModelError, quickly and in one line, when a length lies."""
    try:
        with opened(path) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(data, path)
    except ValueError:  # mmap of an empty file
        raise ModelError(f"{path}: is empty; download it again") from None
    except _Broken as error:
        raise ModelError(f"{path}: {error}; download it again or use another file") from None
