"""Files of Arrow columns: Parquet, Arrow's IPC (as a file or a stream), and datasets that `datasets` saved to disk.

A saved dataset is a directory of streams:

state.json          {"_data_files": [{"filename": "data-00000-of-00002.arrow"}, ...], ...}
dataset_dict.json   {"splits": ["train", "test"]} in the directory above, where there are several
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.data.arrow import Table, batch_rows
from preftree.labeling.data.source import File
from preftree.labeling.terminal import one_line

PARQUET_MAGIC, FILE_MAGIC, STREAM_MAGIC = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_STATE, _SPLITS = "state.json", "dataset_dict.json"

Batches = tuple[Any, Iterator[Any]]
"""(schema, record batches)"""


def parquet(file: File) -> Table:
    return Table(file.name, "Parquet", partial(_parquet_batches, file))


def arrow(file: File) -> Table:
    return Table(file.name, "Arrow", partial(_arrow_batches, file))


def is_saved_dataset(path: Path) -> bool:
    return (path / _STATE).is_file() or (path / _SPLITS).is_file()


def saved_files(path: Path) -> list[Path]:
    """Raises InputError for a broken dataset, or for one of several splits: each is a directory to be named itself."""
    if not (path / _STATE).is_file():
        return saved_files(_only_split(path))
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


@contextmanager
def _parquet_batches(file: File) -> Iterator[Batches]:
    """Row groups are read piece by piece: one may be as large as the file."""
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file.path, buffer_size=1 << 20, page_checksum_verification=True) as opened:
        groups = [opened.metadata.row_group(index) for index in range(opened.metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        yield opened.schema_arrow, opened.iter_batches(batch_rows(opened.metadata.num_rows, size))


@contextmanager
def _arrow_batches(file: File) -> Iterator[Batches]:
    """Nothing in these files is checked by who reads them, so every batch is: an offset may point anywhere."""
    import pyarrow as pa

    with pa.memory_map(str(file.path)) as source:
        if source.read(len(FILE_MAGIC)) == FILE_MAGIC:
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        else:
            source.seek(max(0, source.size() - len(_END_OF_STREAM)), os.SEEK_SET)
            if source.read() != _END_OF_STREAM:
                raise InputError(f"{file} is cut off: a stream of Arrow ends with a mark; get it whole again")
            source.seek(0)
            reader = pa.ipc.open_stream(source)
            batches = iter(reader)
        yield reader.schema, map(_checked, batches)


def _checked(batch: Any) -> Any:
    """Raises pyarrow's errors for what is malformed. Text that is not UTF-8 is left to its rows."""
    import pyarrow as pa

    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        as_bytes = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
        for column in batch.columns:
            column.view(as_bytes.get(column.type, column.type)).validate(full=True)
    return batch


def _only_split(path: Path) -> Path:
    splits = _read(path / _SPLITS).get("splits")
    if not (isinstance(splits, list) and splits and all(map(_is_name, splits))):
        raise InputError(f"{path / _SPLITS} names no splits; save the dataset again")
    if len(splits) > 1:
        names = ", ".join(one_line(str(path / split)) for split in splits)
        raise InputError(f"{path} holds several splits; name one of them: {names}")
    return path / str(splits[0])


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
