"""A dataset that Hugging Face's `datasets` has saved to disk: a directory of Arrow streams and what belongs to them.

state.json          {"_data_files": [{"filename": "data-00000-of-00002.arrow"}, ...], ...}
dataset_dict.json   {"splits": ["train", "test"]} in the directory above, where there are several
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.data.arrow import ipc_batches
from preftree.labeling.data.digest import file_sha256
from preftree.labeling.data.table import Table
from preftree.labeling.terminal import one_line

_STATE, _SPLITS = "state.json", "dataset_dict.json"


def saved_dataset(path: Path) -> Table:
    """Raises InputError for a directory that is none, or of several splits: each is a directory to be named itself."""
    if not (path / _STATE).is_file():
        if (path / _SPLITS).is_file():
            return saved_dataset(_only_split(path))
        raise InputError(f"{path} is a directory and no dataset saved to disk; name a file in it")
    files = _data_files(path)
    return Table(path, "dataset saved to disk", partial(_batches, files), partial(_digest, files))


def _only_split(path: Path) -> Path:
    splits = _read(path / _SPLITS).get("splits")
    if not (isinstance(splits, list) and splits and all(map(_is_name, splits))):
        raise InputError(f"{path / _SPLITS} names no splits; save the dataset again")
    if len(splits) > 1:
        names = ", ".join(one_line(str(path / split)) for split in splits)
        raise InputError(f"{path} holds several splits; name one of them: {names}")
    return path / str(splits[0])


def _data_files(path: Path) -> list[Path]:
    state = _read(path / _STATE)
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise InputError(f"{path} selects its rows by an index; save it again after flatten_indices()")
    entries = state.get("_data_files")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries or ()]
    if not names or not all(map(_is_name, names)):
        raise InputError(f"{path / _STATE} names no data files in its directory; save the dataset again")
    if missing := [name for name in names if not (path / str(name)).is_file()]:
        raise InputError(f"{path} lacks {one_line(str(missing[0]))}; get it whole again")
    return [path / str(name) for name in names]


def _is_name(value: Any) -> bool:
    """Of something in the same directory, and of nothing elsewhere."""
    return isinstance(value, str) and value not in ("", ".", "..") and Path(value).name == value


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON ({error}); save the dataset again") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object; save the dataset again")
    return found


@contextmanager
def _batches(files: Sequence[Path]) -> Iterator[tuple[Any, Iterator[Any]]]:
    with ipc_batches(files[0]) as (schema, _):
        yield schema, chain.from_iterable(_batches_of(path, schema) for path in files)


def _batches_of(path: Path, schema: Any) -> Iterator[Any]:
    with ipc_batches(path) as (found, batches):
        if found.names != schema.names or found.types != schema.types:
            raise InputError(f"{path} has other columns than the files before it; save the dataset again")
        yield from batches


def _digest(files: Sequence[Path]) -> str:
    """Of the data files' names and digests, in their order."""
    lines = (f"{path.name} {file_sha256(path)}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
