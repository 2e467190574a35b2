"""The files that an input names: paths, patterns, folders of shards, standard input, URLs, data sets of the hub.

What is not on this machine is copied first, once: rows are read several times, and a run labels one state of them.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import gettempdir, mkdtemp
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit
from weakref import finalize

from preftree.engine.errors import InputError, OutputError, PreftreeError
from preftree.engine.hub.repository import is_offline
from preftree.labeling.data.folder import URL
from preftree.labeling.data.formats import ENDINGS
from preftree.labeling.data.hub_dataset import HubDataset, cached_file
from preftree.labeling.data.saved_dataset import is_saved_dataset, saved_files
from preftree.labeling.data.source import File, reading
from preftree.labeling.terminal import one_line

STANDARD_INPUT = "-"

_PATTERN = re.compile(r"[*?[]")
_OF_SAVED_DATASETS = ("state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json")
_OF_THE_EXTRA = ("http", "https", "hf")
_OF_THE_WEB = tuple(f"{scheme}://" for scheme in _OF_THE_EXTRA)
_COPIED_AT_A_TIME = 1 << 20


def files_of(inputs: str | Path | Sequence[str | Path], offline: bool = False) -> list[File]:
    """In the order of `inputs`; what a pattern or a folder holds is sorted by name. Raises PreftreeError.

    offline: data sets of the Hugging Face hub come from its cache only.
    """
    names = [str(inputs)] if isinstance(inputs, str | Path) else [str(name) for name in inputs]
    if not names or "" in names:
        raise InputError("no input is named, or one by an empty name")
    copies = _Copies()
    files = [file for name in names for file in _files(name, copies, offline)]
    seen: dict[str, File] = {}
    for file in files:
        before = seen.setdefault(file.original or os.path.realpath(file.path), file)
        if before is not file:
            same = "is named twice" if before.name == file.name else f"and {before} are the same file"
            raise InputError(f"{file} {same}; name it once")
    return files


def filesystem_of(url: str) -> tuple[Any, str]:
    """A pyarrow.fs.FileSystem, and the path in it. Raises what the file system raises, and ImportError."""
    from pyarrow import fs

    if url.lower().startswith("s3://"):  # which pyarrow brings along
        found: tuple[Any, str] = fs.FileSystem.from_uri(url)
        return found
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path


def missing_package(url: str, error: ImportError) -> InputError:
    """What to say where `filesystem_of` lacks a package."""
    scheme = url.partition("://")[0]
    wanted = one_line(str(error)).rstrip(".")
    is_in_extra = "fsspec" in wanted or scheme.lower() in _OF_THE_EXTRA
    remedy = ": pip install 'preftree[remote]'" if is_in_extra else ""
    return InputError(f"{scheme}:// needs a package that is not installed ({wanted}){remedy}")


def detail_of(error: Exception) -> str:
    """What a file system says, in one line; it may be any library's exception."""
    return one_line(str(getattr(error, "strerror", None) or error)).rstrip(".") or type(error).__name__


class _Copies:
    """Copies of what is elsewhere, in a directory that is removed once no file refers to it."""

    def __init__(self) -> None:
        self._directory: Path | None = None
        self._number = 0

    def add(self, stream: BinaryIO, name: str, original: str) -> File:
        """Raises what `stream` raises, and OutputError where there is no room."""
        with writing_copies():
            if self._directory is None:
                self._directory = Path(mkdtemp(prefix="preftree-"))
                finalize(self, shutil.rmtree, self._directory, ignore_errors=True)
            self._number += 1
            path = self._directory / f"{self._number}-{name.rpartition('/')[2]}"
            file = path.open("wb")
        with file:
            while chunk := stream.read(_COPIED_AT_A_TIME):
                with writing_copies():
                    file.write(chunk)
                    file.flush()
        return File(path, name, original, keeper=self)


@contextmanager
def writing_copies() -> Iterator[None]:
    """OutputError where there is no room for temporary files."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write a temporary file in {gettempdir()}: {error.strerror or error}; make room there, or name "
            "another place with TMPDIR"
        ) from error


def _files(name: str, copies: _Copies, offline: bool) -> Iterable[File]:
    if name == STANDARD_INPUT:
        if sys.stdin is None:
            raise InputError("- is standard input, and that is closed; pipe rows into it, or name a file")
        if sys.stdin.isatty():
            raise InputError("- is standard input, and that is a terminal; pipe rows into it, or name a file")
        return [copies.add(sys.stdin.buffer, "standard input", STANDARD_INPUT)]
    if name.lower().startswith("file://"):
        name = unquote(urlsplit(name).path)
    if URL.match(name):
        return [cached] if (cached := cached_file(name)) else _remote(name, copies, offline)
    if dataset := HubDataset.parse(name):
        return dataset.files(offline)
    return [File(path, str(path)) for path in _local(name)]


def _local(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir() and is_saved_dataset(path):
        return saved_files(path)
    if path.is_dir():
        with reading(name):
            return [path / shard for shard in _shards(os.listdir(path), name)]
    if not _PATTERN.search(name) or os.path.lexists(path):
        return [path]
    files = [Path(one) for one in sorted({*glob.glob(name, recursive=True)}) if not os.path.isdir(one)]
    if not files:
        raise InputError(f"no file matches {name}")
    return files


def _shards(names: Iterable[str], folder: str) -> list[str]:
    """Of the files in a folder, those to read. Hidden ones, and what the ending says is no data, are left out."""
    data = re.compile(rf"[^._].*({'|'.join(map(re.escape, ENDINGS))})(\.gz|\.zst)?", re.IGNORECASE | re.DOTALL)
    found = sorted(name for name in names if data.fullmatch(name) and name not in _OF_SAVED_DATASETS)
    if not found:
        raise InputError(f"{folder} is a directory without data files; their names end in {', '.join(ENDINGS)}")
    return found


def _remote(url: str, copies: _Copies, offline: bool) -> list[File]:
    if is_offline(offline) and url.lower().startswith(_OF_THE_WEB):
        raise InputError(
            f"{url} is not on this machine, and nothing may be downloaded (--offline or HF_HUB_OFFLINE); name a copy "
            "of it"
        )
    files = []
    try:
        for system, path, name in _objects(url):
            with system.open_input_stream(path, compression=None) as stream:
                files.append(copies.add(stream, name.partition("?")[0], name))
        return files
    except PreftreeError:
        raise
    except ImportError as error:
        raise missing_package(url, error) from error
    except FileNotFoundError as error:
        raise InputError(f"no such file: {url}") from error
    except Exception as error:  # file systems raise what their libraries do
        raise InputError(f"cannot read {url}: {detail_of(error)}") from error


def _objects(url: str) -> list[tuple[Any, str, str]]:
    """File system, path and URL of each. Patterns are matched name by name: * does not reach into folders."""
    from pyarrow import fs

    base, mark, query = url.partition("?")
    parts = base.split("/")
    first = next((place for place, part in enumerate(parts) if place > 2 and _PATTERN.search(part)), len(parts))
    pattern = parts[first:]
    root = "/".join(parts[:first])
    system, path = filesystem_of(root + mark + query)
    about = system.get_file_info(path)
    if about.type == fs.FileType.NotFound:
        raise FileNotFoundError
    if about.type == fs.FileType.File and not pattern:
        return [(system, path, url)]
    entries = system.get_file_info(fs.FileSelector(path, recursive=len(pattern) > 1))
    names = [entry.path[len(path) :].strip("/") for entry in entries if entry.type == fs.FileType.File]
    if pattern:
        split = (name.split("/") for name in sorted(names))
        names = ["/".join(one) for one in split if len(one) == len(pattern) and all(map(fnmatchcase, one, pattern))]
        if not names:
            raise InputError(f"no file matches {url}")
    else:
        names = _shards(names, url)
    return [(system, f"{path.rstrip('/')}/{name}", f"{root.rstrip('/')}/{name}{mark}{query}") for name in names]
