"""The bytes of a text file, decompressed where it is compressed: by its first bytes, whatever its name."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from preftree.engine.errors import InputError

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_REFUSED = {b"PK\x03\x04": "a zip archive", b"BZh": "compressed with bzip2", b"\xfd7zXZ\x00": "compressed with xz"}


def compression_of(path: Path, head: bytes) -> str | None:
    """ "gzip", "zstd" or None, from the first bytes of a file. InputError for a compression that is not read."""
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            raise InputError(f"{path} is {what}; unpack it, or compress it with gzip or zstd")
    return "gzip" if head.startswith(_GZIP) else "zstd" if head.startswith(_ZSTD) else None


@contextmanager
def text_bytes(path: Path, compression: str | None) -> Iterator[BinaryIO]:
    """The text of a file as bytes. Inside, errors of reading and of damaged compression become InputError."""
    try:
        with _opened(path, compression) as file:
            yield file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if compression and error.errno is None:  # pyarrow's word for damaged data
            raise _damaged(path, error) from error
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def _opened(path: Path, compression: str | None) -> BinaryIO:
    if compression == "gzip":
        return cast(BinaryIO, gzip.open(path))
    if compression == "zstd":
        import pyarrow as pa

        return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"), 1 << 17))
    return path.open("rb")


def _damaged(path: Path, error: Exception) -> InputError:
    detail = str(error).rstrip(".")
    return InputError(
        f"{path} is damaged or cut off ({detail}); get it whole again, or unpack what can be unpacked and name that"
    )
