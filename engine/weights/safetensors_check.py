"""The header of a safetensors file, checked before the library reads it.

safetensors 0.8 accepts duplicate tensor names; a lying offset or a truncated download should name the tensor.
Format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.engine.errors import ModelError
from preftree.engine.files import first_line, parse_json

MAX_HEADER_BYTES = 16_000_000  # room for some 100,000 tensors; the format itself allows six times as much
DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}


@dataclass(frozen=True)
class Entry:
    """One tensor's line in the header; `begin` and `end` are bytes in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _read_header(path: Path) -> tuple[bytes, int]:
    """The header's bytes and how many bytes of tensors follow it."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        prefix = file.read(8)
        if prefix[:1] == b"\x80" or prefix[:4] == b"PK\x03\x04":
            raise ModelError(
                f"{path}: holds pickled weights under another name, which preftree never opens; "
                "convert them to safetensors"
            )
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise ModelError(f"{path}: is truncated or no safetensors file; download it again")
        return file.read(length), size - 8 - length


def _counts(value: object) -> bool:
    """Whether `value` is a list of whole numbers that 64-bit arithmetic can hold."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 62 for item in value)


def _entry(path: Path, name: str, line: Any) -> Entry:
    """One header line with its types checked, and its byte range against its own shape."""
    line = line if isinstance(line, dict) else {}
    dtype, shape, offsets = line.get("dtype"), line.get("shape"), line.get("data_offsets")
    if not _counts(shape) or not _counts(offsets) or len(shape) > 8 or len(offsets) != 2:
        raise ModelError(f"{path}: the header's line of tensor {name!r:.100} is malformed; download again")
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ModelError(f"{path}: tensor {name!r:.100} has the unknown dtype {dtype!r:.20}")
    begin, end = offsets
    if end - begin != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise ModelError(
            f"{path}: tensor {name!r:.100} claims {end - begin} bytes, which do not fit {dtype} {shape}; "
            "download it again"
        )
    return Entry(dtype, tuple(shape), begin, end)


def read_entries(path: Path) -> dict[str, Entry]:
    """All tensors of a safetensors file by name, in the order of their bytes; no tensor data is read.

    ModelError when the file is missing, truncated or a renamed pickle, or when its header lies: too long,
    broken JSON, duplicate names, or byte ranges that overlap, leave gaps or end outside the file.
    """
    try:
        raw, data_bytes = _read_header(path)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; download the model again with all its files") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or first_line(error)})") from None
    header = parse_json(raw, f"{path} (header)")
    header.pop("__metadata__", None)
    entries = {name: _entry(path, name, line) for name, line in header.items()}
    ordered = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    position = 0
    for name, entry in ordered.items():
        if entry.begin != position:
            raise ModelError(f"{path}: tensor {name!r:.100} overlaps another or leaves a gap; download again")
        position = entry.end
    if position != data_bytes:
        raise ModelError(f"{path}: truncated: tensors take {position} bytes, the file has {data_bytes}; download again")
    start = 8 + len(raw)
    return {
        name: Entry(entry.dtype, entry.shape, start + entry.begin, start + entry.end) for name, entry in ordered.items()
    }
