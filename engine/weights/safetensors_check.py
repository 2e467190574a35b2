"""The header of a safetensors file: the library checks it, and what it leaves out is checked here.

safetensors 0.8 accepts a tensor name twice, headers of 100 MB, and lists in the place of objects.
Format: 8 bytes little-endian header length, a JSON header, then the tensors' bytes.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from preftree.engine.errors import ModelError
from preftree.engine.files import first_line, opened, parse_json

MAX_HEADER_BYTES = 16_000_000  # room for some 100,000 tensors


@dataclass(frozen=True)
class Entry:
    """One tensor's line in the header; `begin` and `end` are bytes in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _read_header(path: Path) -> bytes:
    """Its length and its JSON."""
    with opened(path) as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if 2 <= length <= min(os.fstat(file.fileno()).st_size - 8, MAX_HEADER_BYTES):
            return prefix + file.read(length)
    # Not before: the length of a header in order may begin with these bytes, too.
    if prefix[:1] == b"\x80" or prefix[:4] == b"PK\x03\x04":
        raise ModelError(
            f"{path}: holds pickled weights under another name, which preftree never opens; convert them to safetensors"
        )
    raise ModelError(f"{path}: is truncated or no safetensors file; download it again")


def read_entries(path: Path) -> dict[str, Entry]:
    """All tensors of a safetensors file by name, in the order of their bytes; no tensor data is read.

    ModelError when the file is missing, truncated or a renamed pickle, or when its header lies: too long,
    broken JSON, duplicate names, or byte ranges that overlap, leave gaps or end outside the file.
    """
    try:
        raw = _read_header(path)
        header = parse_json(raw[8:], f"{path} (header)")
        with safe_open(path, "numpy"):  # types, shapes and bytes fit together
            header.pop("__metadata__", None)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or first_line(error)})") from None
    except SafetensorError as error:
        reason = first_line(error).removeprefix("Error while deserializing header: ")
        raise ModelError(f"{path}: is truncated, or its header lies ({reason}); download it again") from None
    entries = {}
    for name, line in header.items():
        if not isinstance(line, dict) or not isinstance(
            line["dtype"], str
        ):  # the library takes lists and {"F32": null}
            raise ModelError(f"{path}: the header's line of tensor {name!r:.100} is malformed; download it again")
        begin, end = line["data_offsets"]
        entries[name] = Entry(line["dtype"], tuple(line["shape"]), len(raw) + begin, len(raw) + end)
    return dict(sorted(entries.items(), key=lambda item: item[1].begin))
