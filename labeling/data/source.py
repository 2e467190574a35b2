"""What every input is to the reader: files on this machine, and sources, which yield rows with their numbers."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

from preftree.engine.errors import InputError
from preftree.labeling.data.row import BadRow

Rows = Generator[tuple[int, dict[str, Any] | BadRow], None, int]

_BUFFER = 1 << 17
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
PICKLED = (".pkl", ".pickle", ".pt", ".pth")  # names of pickles end so

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_REFUSED = {
    b"PK\x03\x04": "a zip archive; unpack it, or compress it with gzip or zstd",
    b"BZh": "compressed with bzip2; unpack it, or compress it with gzip or zstd",
    b"\xfd7zXZ\x00": "compressed with xz; unpack it, or compress it with gzip or zstd",
    **{bytes([0x80, version]): "a pickle, which is never read; save the rows as Parquet" for version in range(2, 6)},
}


class Source(Protocol):
    """Rows of one format.

    Attributes:
        name: for messages: a path, a URL.
        format: for people, "Parquet" or "JSONL, gzip".
    """

    @property
    def name(self) -> str: ...

    @property
    def format(self) -> str: ...

    def rows(self, last: int = 0) -> Rows:
        """Every row as JSON values, in file order, or why it cannot be one. Streams, and may be asked again.

        Args:
            last: the number before that of the first row.

        Returns:
            The number of the last row or, in a text file, of the last line.

        Raises:
            InputError: the file as a whole is at fault: damaged, cut off, not what its name says.
        """

    def left_out(self) -> dict[str, str]:
        """Columns that no row has because their type cannot be read: the type by name. InputError as above."""


@dataclass(frozen=True)
class File:
    """A file on this machine.

    Attributes:
        path: where it is.
        name: what messages call it.
        original: None, or what it is a copy of.
        keeper: what removes a copy once nobody refers to it.
    """

    path: Path
    name: str
    original: str | None = None
    keeper: object = None

    def __str__(self) -> str:
        return self.name

    @property
    def recorded(self) -> str:
        """Where to find it again."""
        return self.original or str(self.path.absolute())

    def sha256(self) -> str:
        """Raises InputError when the file cannot be read."""
        with reading(self), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def reading(name: object) -> Iterator[None]:
    """What keeps a file from being read becomes an InputError."""
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"no such file: {name}") from error
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror or error}") from error


@dataclass(frozen=True)
class TextFile:
    """What sources of text share. compression: see `compression_of`."""

    file: File
    compression: str | None = None

    FORMAT: ClassVar[str]

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def format(self) -> str:
        return f"{self.FORMAT}, {self.compression}" if self.compression else self.FORMAT

    def left_out(self) -> dict[str, str]:
        """None: everything is text."""
        return {}


def compression_of(file: File, head: bytes) -> str | None:
    """ "gzip", "zstd" or None, from the first bytes of a file. InputError for what is never read."""
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            raise InputError(f"{file} is {what}")
    return "gzip" if head.startswith(_GZIP) else "zstd" if head.startswith(_ZSTD) else None


@contextmanager
def text_bytes(file: File, compression: str | None) -> Iterator[io.BufferedReader]:
    """The text of a file as bytes. Inside, errors of reading and of damaged compression become InputError.

    Raises InputError for text that is no UTF-8 from its first bytes on.
    """
    with reading(file):
        try:
            with _opened(file.path, compression) as stream:
                if stream.peek(2).startswith(_UTF16):
                    raise InputError(f"{file} is UTF-16; save it as UTF-8")
                yield stream
        except (OSError, EOFError, zlib.error) as error:
            if isinstance(error, OSError) and (error.errno is not None or not compression):
                raise
            problem = str(error).rstrip(".")
            raise InputError(
                f"{file} is damaged or cut off ({problem}); get it whole again, or unpack what can be unpacked and "
                "name that"
            ) from error


def skip_blank_lines(stream: io.BufferedReader, blank: bytes) -> int:
    """Skips lines of nothing but `blank` that come next, a buffer at a time. Returns how many.

    A few kilobytes of zstd can hold a billion of them.
    """
    skipped = 0
    while chunk := stream.peek(1):
        end = chunk.rfind(b"\n", 0, len(chunk) - len(chunk.lstrip(blank))) + 1
        skipped += chunk.count(b"\n", 0, end)
        stream.read(end)
        if end < len(chunk):
            break
    return skipped


def _opened(path: Path, compression: str | None) -> io.BufferedReader:
    if compression is None:
        return io.BufferedReader(io.FileIO(path), _BUFFER)
    if compression == "gzip":
        return io.BufferedReader(cast(io.RawIOBase, gzip.open(path)), _BUFFER)
    import pyarrow as pa

    return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"), _BUFFER)
