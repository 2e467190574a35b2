"""Arrow's own files: IPC, as a file with a footer (Feather V2, too) or as a stream."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.data.digest import file_sha256
from preftree.labeling.data.table import Table

FILE_MAGIC, STREAM_MAGIC = b"ARROW1", b"\xff\xff\xff\xff"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


def arrow(path: Path) -> Table:
    return Table(path, "Arrow", partial(ipc_batches, path), partial(file_sha256, path))


@contextmanager
def ipc_batches(path: Path) -> Iterator[tuple[Any, Iterator[Any]]]:
    """Nothing in these files is checked by who reads them, so every batch is: an offset may point anywhere."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as source:
        if source.read(len(FILE_MAGIC)) == FILE_MAGIC:
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
        else:
            source.seek(max(0, source.size() - len(_END_OF_STREAM)), os.SEEK_SET)
            if source.read() != _END_OF_STREAM:
                raise InputError(f"{path} is cut off: a stream of Arrow ends with a mark; get it whole again")
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
