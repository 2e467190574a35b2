"""A dataset that Hugging Face's `datasets` has saved to disk: a directory of IPC streams.

state.json          {"_data_files": [{"filename": "data-00000-of-00002.arrow"}, ...], ...}
dataset_dict.json   {"splits": ["train", "test"]} in the directory above, where there are several
"""

from __future__ import annotations

import json
from pathlib import Path

from preftree.engine.errors import InputError
from preftree.labeling.regular_file import open_regular
from preftree.labeling.terminal import one_line

_STATE, _SPLITS = "state.json", "dataset_dict.json"


def is_saved_dataset(path: Path) -> bool:
    return (path / _STATE).is_file() or (path / _SPLITS).is_file()


def saved_files(path: Path) -> list[Path]:
    """Raises InputError for a broken dataset, or for one of several splits: each is a directory to be named itself."""
    if (path / _STATE).is_file():
        return [path / name for name in _names(path / _STATE, "_data_files")]
    first, *others = _names(path / _SPLITS, "splits")
    if others:
        names = ", ".join(one_line(str(path / split)) for split in (first, *others))
        raise InputError(f"{path} holds several splits; name one of them: {names}")
    return saved_files(path / first)


def _names(record: Path, key: str) -> list[str]:
    """Of what lies beside a record, and of nothing elsewhere."""
    try:
        with open_regular(record) as file:
            found = json.load(file)
        has_index = found.get("_indices_files") or found.get("_indices_data_files")
        names = [entry["filename"] if key == "_data_files" else entry for entry in found[key]]
        is_good = names and all(name not in ("", ".", "..") and Path(name).name == name for name in names)
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        has_index = is_good = False
    if has_index:
        raise InputError(f"{record.parent} selects its rows by an index; save it again after flatten_indices()")
    if not is_good:
        raise InputError(f"{record} does not say what lies beside it; save the dataset again")
    return names
