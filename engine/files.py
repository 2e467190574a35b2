"""Files of a model, read with care: regular files only; text bounded, UTF-8, without duplicate JSON keys."""

import hashlib
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from preftree.engine.errors import ModelError

# The largest tokenizer.json known has some 35 MB; parsed, JSON takes up to ten times its size.
MAX_TEXT_BYTES = 100_000_000
MAX_JSON_CONTAINERS = 2_000_000
# A part of a split GGUF file, without its ending: the model's name, which part it is, and of how many.
GGUF_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})")
# Opening a pipe would wait for a writer; a pipe that takes a file's place in between must not, either.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def first_line(error: BaseException) -> str:
    """What another library said, cut to one line that fits into ours."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]


@contextmanager
def naming(origin: Path | str) -> Iterator[None]:
    """Open the line of every ModelError raised inside with `origin`, unless it names a file there already."""
    try:
        yield
    except ModelError as error:
        message = str(error)
        raise ModelError(message if message.startswith(str(origin)) else f"{origin}: {message}") from None


@contextmanager
def advising(way_out: str) -> Iterator[None]:
    """End the line of every ModelError raised inside with `way_out`, unless it names one.

    After a semicolon there is a way out, or what preftree has in place of what was asked for, which is none.
    """
    try:
        yield
    except ModelError as error:
        message = str(error)
        _, semicolon, end = message.rpartition("; ")
        raise ModelError(
            message if semicolon and not end.startswith("preftree ") else f"{message}; {way_out}"
        ) from None


def is_there(path: Path) -> bool:
    """Whether anything has this name. A link that leads nowhere has: what it stood for is missing, not optional."""
    return os.path.lexists(path)


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """`path`, open for reading. Links are followed, as caches of models are made of them.

    ModelError when it is missing or no regular file, and for every OSError in the block.
    """
    try:
        _check_regular(path, os.stat(path))
        with open(os.open(path, _FLAGS), "rb") as file:
            _check_regular(path, os.fstat(file.fileno()))
            yield file
    except FileNotFoundError:
        fault = "is a link that leads nowhere" if path.is_symlink() else "no such file"
        raise ModelError(f"{path}: {fault}; download the model again with all its files") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or first_line(error)})") from None


def _check_regular(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "special file")
        raise ModelError(f"{path}: is no file but a {kind}; download the model again")


def read_bytes(path: Path, most: int = MAX_TEXT_BYTES) -> bytes:
    """The content of `path`. ModelError as `opened`, and above `most` bytes."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ModelError(f"{path}: {size:,} bytes is more than preftree reads ({most:,})")
        return file.read(most)


def sha256(path: Path) -> str:
    """In hexadecimal, some seconds a gigabyte. ModelError as `opened`."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path) -> str:
    """The text of `path`. ModelError as `read_bytes`, and when it is not UTF-8."""
    try:
        return read_bytes(path).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise ModelError(f"{path}: is not UTF-8 text; download the file again") from None


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """`object_pairs_hook` for `json.loads`: readers disagree about which of two equal keys counts."""
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice[:100]!r} appears twice")
    return result


def parse_json(text: str | bytes, origin: str) -> dict[str, Any]:
    """A JSON object. ModelError naming `origin` when the text is broken, nested absurdly, too rich or no object."""
    try:
        raw = text.encode() if isinstance(text, str) else text
        if raw.count(b"[") + raw.count(b"{") > MAX_JSON_CONTAINERS:
            raise ValueError(f"more than {MAX_JSON_CONTAINERS:,} lists and objects")
        value = json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{origin}: broken JSON ({first_line(error)}); download the file again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{origin}: holds no JSON object but a {type(value).__name__}; download it again")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Errors as `read_text` and `parse_json`."""
    return parse_json(read_text(path), str(path))
