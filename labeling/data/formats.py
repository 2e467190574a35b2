"""What a path holds: told by its first bytes; only text is told apart by its name."""

from __future__ import annotations

import stat
from pathlib import Path

from preftree.engine.errors import InputError
from preftree.labeling.data.arrow import FILE_MAGIC, STREAM_MAGIC, arrow
from preftree.labeling.data.csv import Csv
from preftree.labeling.data.jsonl import JsonLines
from preftree.labeling.data.parquet import parquet
from preftree.labeling.data.saved import saved_dataset
from preftree.labeling.data.source import Source
from preftree.labeling.data.stream import compression_of

_PARQUET_MAGIC = b"PAR1"
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_BINARY = {".parquet": "Parquet", ".arrow": "Arrow", ".feather": "Arrow"}


def open_source(path: Path) -> Source:
    """Raises InputError for what is not there, cannot be read, or is no input; contents are looked at later."""
    head = _head(path)
    if head is None:
        return saved_dataset(path)
    if head.startswith(_PARQUET_MAGIC):
        return parquet(path)
    if head.startswith((FILE_MAGIC, STREAM_MAGIC)):
        return arrow(path)
    compression = compression_of(path, head)
    *_, ending = suffixes = [suffix.lower() for suffix in path.suffixes] or [""]
    if compression is None and ending in _BINARY:
        raise InputError(f"{path} is no {_BINARY[ending]}, whatever its name says; get it whole again, or rename it")
    if compression and len(suffixes) > 1 and ending not in _DELIMITERS:
        ending = suffixes[-2]
    if ending in _BINARY:
        raise InputError(f"{path} is {_BINARY[ending]} compressed with {compression}; unpack it")
    if ending in _DELIMITERS:
        return Csv(path, _DELIMITERS[ending], compression)
    return JsonLines(path, compression)


def _head(path: Path) -> bytes | None:
    """The first bytes of a file, None for a directory. The input is read more than once, so a pipe will not do."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return None
        if not stat.S_ISREG(mode):
            raise InputError(f"{path} is not a plain file, and the input is read twice; save it to a file first")
        with path.open("rb") as file:
            return file.read(8)
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
