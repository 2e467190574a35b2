"""`labels.parquet`: written as a stream, under another name until it is complete, and read as one."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.data.atomic import Draft
from preftree.labeling.data.columns import names_of_labels
from preftree.labeling.data.dataset import DatasetInfo
from preftree.labeling.data.folder import DIRECTORY, FILE, LINK, MISSING, Folder, folder_of, kind_of
from preftree.labeling.data.label_table import LabelTable
from preftree.labeling.regular_file import open_regular
from preftree.labeling.terminal import one_line
from preftree.labeling.types import ArrowType, Label, Rejected, Sample

LABELS, RUN = "labels.parquet", "run.json"

# A row group ends at whichever comes first; the second bounds memory when rows carry long texts.
_GROUP_ROWS = 4096
_GROUP_BYTES = 16 * 1024 * 1024
_READ_ROWS = 512


def check_out_file(path: Path, overwrite: bool) -> None:
    """Raises OutputError where a file cannot go, or must not without `overwrite`.

    What it replaces must be a regular file or a link, which is not followed: nobody wants /dev/stdout replaced.
    """
    if path.is_dir():
        raise OutputError(f"{path} is {DIRECTORY}; name a file")
    if (kind := kind_of(path)) not in (FILE, LINK, MISSING):
        raise OutputError(f"{path} is {kind}; name a file")
    is_stream = kind == LINK and os.readlink(path).startswith("/proc/")  # /dev/stdout, wherever that leads
    if is_stream or (kind == LINK and path.exists() and not path.is_file()):
        raise OutputError(f"{path} is a link to what is no file; name a file")
    if kind != MISSING and not overwrite:
        raise OutputError(f"{path} exists already; name another file, or replace it with --overwrite")
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: {path.absolute().parent} is no writable directory")


class LabelWriter:
    """A context: `add` rows, then `publish`. Left without `publish`, it leaves nothing.

    The bytes of the file depend on nothing but the rows, in their order.

    Attributes:
        table: what makes batches of rows and labels.
    """

    def __init__(
        self,
        out: str | Path | Folder,
        info: DatasetInfo,
        columns: Mapping[str, ArrowType],
        imitates: Callable[[Sample], bool] | None = None,
        filled: Mapping[str, ArrowType] | None = None,
    ) -> None:
        """out: a folder. The others are those of `LabelTable`."""
        import pyarrow as pa
        from pyarrow import parquet

        self.table = LabelTable(info, columns, imitates, filled)
        self._batches: list[Any] = []
        self._rows = self._text = 0
        self._folder = folder_of(out)
        with guarded(self._folder):
            self._draft = self._folder.draft(LABELS)
        self._sink = _Sink(self._draft)
        self._parquet = parquet.ParquetWriter(pa.PythonFile(self._sink, mode="w"), self.table.schema)

    def __enter__(self) -> LabelWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.muted = True
        with suppress(Exception):
            self._parquet.close()
        self._draft.discard()

    def add(self, rows: Sequence[tuple[Sample | Rejected, Label | None]]) -> None:
        """Appends rows with their labels, None for a rejected one. Raises OutputError."""
        self.add_batch(self.table.batch(rows))

    def add_batch(self, batch: Any) -> None:
        """Appends a batch of `table`. Raises OutputError."""
        while batch.num_rows:
            taken = batch.slice(0, self._room(batch))
            self._batches.append(taken)
            self._rows += taken.num_rows
            self._text += _text_bytes(taken)
            batch = batch.slice(taken.num_rows)
            if self._rows == _GROUP_ROWS or self._text >= _GROUP_BYTES:
                with guarded(self._folder):
                    self._flush()

    def publish(self) -> None:
        """Gives the file its name, in the place of an older one. Raises OutputError."""
        with guarded(self._folder):
            self._flush()
            self._parquet.close()
            self._draft.seal()
            self._draft.publish()
            self._folder.sync()

    def _flush(self) -> None:
        """Batches are joined: pages must not end where windows happened to."""
        import pyarrow as pa

        if self._batches:
            group = pa.Table.from_batches(self._batches).combine_chunks()
            self._parquet.write_table(group, group.num_rows)
            self._batches, self._rows, self._text = [], 0, 0

    def _room(self, batch: Any) -> int:
        """Rows up to the one that fills the group; all of them where none does."""
        rows = min(batch.num_rows, _GROUP_ROWS - self._rows)
        room = _GROUP_BYTES - self._text
        if _text_bytes(batch.slice(0, rows)) < room:
            return rows
        return 1 + bisect_left(range(rows), room, key=lambda row: _text_bytes(batch.slice(0, row + 1)))


@contextmanager
def guarded(directory: Folder) -> Iterator[None]:
    """What keeps a run's directory from being written becomes an OutputError, and says how to go on."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write to {directory}: {error.strerror or error}; finished rows are kept: put that right and run "
            "the same command again"
        ) from error


def _text_bytes(array: Any) -> int:
    """Of all texts in it: rationales may lie in lists, and these in the principles of a row."""
    from pyarrow import RecordBatch, compute, types

    if isinstance(array, RecordBatch):
        return sum(map(_text_bytes, array.columns))
    if types.is_string(array.type):
        return compute.sum(compute.binary_length(array)).as_py() or 0
    if types.is_list(array.type):
        return _text_bytes(array.flatten())
    return sum(map(_text_bytes, array.flatten())) if types.is_struct(array.type) else 0


class _Sink:
    """What pyarrow writes to. Muted, it swallows: an abandoned ParquetWriter insists on its footer."""

    def __init__(self, draft: Draft) -> None:
        self._file = draft.file
        self.muted = False
        self.closed = False

    def write(self, data: bytes) -> int:
        return len(data) if self.muted else self._file.write(data)

    def tell(self) -> int:
        return 0 if self.muted else self._file.tell()

    def flush(self) -> None:
        """Nothing to do: the draft flushes when it is sealed."""

    def close(self) -> None:
        """The draft closes the file."""


def local_labels(folder: Folder, name: str = LABELS) -> Path:
    """The labels as a file of this machine, which lasts as long as `folder`. Raises OutputError."""
    try:
        path = folder.local(name)
        open_regular(path).close()  # a pipe would be waited for
        return path
    except FileNotFoundError:
        way_out = "label the input again" if name == LABELS else "name the directory of a run, or a file of labels"
        raise OutputError(f"no such file: {folder.place(name)}; {way_out}") from None
    except OSError as error:
        raise OutputError(f"cannot read {folder.place(name)}: {error.strerror or error}") from error


def label_rows(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """These columns of every row, in file order, and of `optional` those that the labels have: not the input.

    Raises OutputError where they cannot be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            names = file.schema_arrow.names
            if missing := [name for name in columns if name not in names]:
                raise OutputError(f"{path} has no column {missing[0]}; label the input again")
            there = [name for name in optional if name in names_of_labels(names)]
            for batch in file.iter_batches(_READ_ROWS, columns=[*columns, *there]):
                yield from batch.to_pylist()
    except FileNotFoundError:
        raise OutputError(f"no such file: {path}; label the input again") from None
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"cannot read {path}: {one_line(str(error))}") from error


def with_samples(
    rows: Iterable[dict[str, Any]], items: Iterable[Sample | Rejected], path: Path
) -> Iterator[tuple[Sample | None, dict[str, Any]]]:
    """Each row with the sample of its id, None for one that was rejected. rows: with id and status.

    Rows come in the order of the input, but not all of it need be there. OutputError for a row that has no sample.
    """
    good = (item for item in items if not isinstance(item, Rejected))
    for row in rows:
        if row["status"] != "ok":
            yield None, row
            continue
        sample = next((item for item in good if item.id == row["id"]), None)
        if sample is None:
            raise OutputError(
                f"{path} does not belong to its input: row {one_line(str(row['id']))} is not there, or not in the same "
                "order; label the input again"
            )
        yield sample, row
