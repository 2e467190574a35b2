"""Small files of a model directory, read with care: bounded, UTF-8, no duplicate JSON keys."""

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from preftree.engine.errors import ModelError

# The largest tokenizer.json known has some 35 MB; parsed, JSON takes up to ten times its size.
MAX_TEXT_BYTES = 100_000_000
MAX_JSON_CONTAINERS = 2_000_000


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


def read_bytes(path: Path, most: int = MAX_TEXT_BYTES) -> bytes:
    """The content of `path`. ModelError when it is missing, no file, unreadable or above `most` bytes."""
    if path.exists() and not path.is_file():  # a pipe would wait for ever
        raise ModelError(f"{path}: is no file; download the model again")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > most:
                raise ModelError(f"{path}: {size:,} bytes is more than preftree reads ({most:,})")
            return file.read(most)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file; download the model again with all its files") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or first_line(error)})") from None


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
