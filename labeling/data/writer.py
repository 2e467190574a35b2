"""Labels into a directory: `labels.parquet` as a stream, then `run.json`; both complete, or neither there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.errors import OutputError
from labeling.data.columns import label_columns, output_names, stored
from labeling.data.draft import Draft, sync_directory
from labeling.data.reader import Survey
from labeling.types import ArrowType, Label, Rejected, Sample

LABELS, RUN = "labels.parquet", "run.json"

# A row group ends at whichever comes first; the second bounds memory when rows carry long texts.
_GROUP_ROWS = 4096
_GROUP_CHARS = 16 * 1024 * 1024

_ARROW_TYPES = {"string": "string", "json": "string", "int": "int64", "float": "double", "bool": "bool"}


def check_out_dir(out_dir: Path, overwrite: bool) -> None:
    """Raises OutputError where labels cannot go, or must not without `overwrite`."""
    if os.path.lexists(out_dir) and not out_dir.is_dir():
        raise OutputError(f"{out_dir} is not a directory; name another --out")
    for path in (out_dir / LABELS, out_dir / RUN):
        if path.is_dir():
            raise OutputError(f"{path} is a directory; name another --out")
        if os.path.lexists(path) and not overwrite:
            raise OutputError(f"{path} exists already; name another --out, or replace it with --overwrite")


def check_out_file(path: Path, overwrite: bool) -> None:
    """Raises OutputError where a file cannot go, or must not without `overwrite`."""
    if path.is_dir():
        raise OutputError(f"{path} is a directory; name a file")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path} exists already; name another file, or replace it with --overwrite")
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: {path.absolute().parent} is no writable directory")


class LabelWriter:
    """A context: `add` rows, then `publish`. Leaving it without `publish` removes all that was written."""

    def __init__(
        self, out_dir: str | Path, survey: Survey, columns: Mapping[str, ArrowType], overwrite: bool = False
    ) -> None:
        """columns: those of the labels' method, see `labeling.types.Label`."""
        import pyarrow as pa
        from pyarrow import parquet

        self.out_dir = Path(out_dir)
        self._overwrite = overwrite
        self._survey = survey
        self._columns = columns
        self._schema = _schema(survey, columns)
        self._rows: list[tuple[Any, ...]] = []
        self._chars = 0
        self._drafts: list[Draft] = []
        with self._guarded():
            check_out_dir(self.out_dir, overwrite)
            self._created = [path for path in (self.out_dir, *self.out_dir.parents) if not path.exists()]
            try:
                self.out_dir.mkdir(parents=True, exist_ok=True)
                self._sink = _Sink(self._draft(LABELS))
                self._parquet = parquet.ParquetWriter(pa.PythonFile(self._sink, mode="w"), self._schema)
            except BaseException:
                self._discard()
                raise

    def __enter__(self) -> LabelWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.muted = True
        with suppress(Exception):
            self._parquet.close()
        self._discard()

    def add(self, item: Sample | Rejected, label: Label | None) -> None:
        """Appends a row. Raises OutputError."""
        extra = [stored(item.extra.get(name), kind) for name, kind in self._survey.columns.items()]
        gold = [getattr(item, "gold", None)] if self._survey.has_gold else []
        row = (*self._label_values(item, label), *gold, *extra)
        self._rows.append(row)
        self._chars += sum(len(value) for value in row if isinstance(value, str))
        if len(self._rows) >= _GROUP_ROWS or self._chars >= _GROUP_CHARS:
            with self._guarded():
                self._flush()

    def publish(self, run: dict[str, Any]) -> None:
        """Gives both files their names. An old run.json goes first: labels never have another's record."""
        with self._guarded():
            self._flush()
            self._parquet.close()
            record = self._draft(RUN)
            record.file.write(json.dumps(run, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n")
            for draft in self._drafts:
                draft.seal()
            check_out_dir(self.out_dir, self._overwrite)
            (self.out_dir / RUN).unlink(missing_ok=True)
            for draft in self._drafts:
                draft.publish()
            self._created = []
            sync_directory(self.out_dir)

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._rows:
            return
        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._parquet.write_table(pa.Table.from_arrays(arrays, schema=self._schema), len(self._rows))
        self._rows, self._chars = [], 0

    def _label_values(self, item: Sample | Rejected, label: Label | None) -> Iterator[Any]:
        """The values of `label_columns`, in their order."""
        yield item.id
        if isinstance(item, Rejected):
            yield from ("none" if name == "verdict" else None for name in self._columns)
            yield from ("rejected", f"line {item.line}: {item.reason}", None)
            return
        assert label is not None
        values = label.values()
        yield from (values[name] for name in self._columns)
        yield from ("ok", None, label.prompt_tokens)

    def _draft(self, name: str) -> Draft:
        draft = Draft(self.out_dir / name)
        self._drafts.append(draft)
        return draft

    def _discard(self) -> None:
        for draft in self._drafts:
            draft.discard()
        with suppress(OSError):  # a directory that holds something by now stays
            for path in self._created:
                path.rmdir()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"cannot write to {self.out_dir}: {error.strerror or error}") from error


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


def _schema(survey: Survey, columns: Mapping[str, ArrowType]) -> Any:
    import pyarrow as pa

    types = label_columns(columns)
    if survey.has_gold:
        types["gold"] = "string"
    names = output_names(survey.columns, reserved=list(types))
    types |= {names[name]: _ARROW_TYPES[kind] for name, kind in survey.columns.items()}
    return pa.schema([(name, arrow_type(spec)) for name, spec in types.items()])


def arrow_type(spec: ArrowType) -> Any:
    """Arrow's type of a column."""
    import pyarrow as pa

    if isinstance(spec, list):
        return pa.list_(arrow_type(spec[0]))
    if isinstance(spec, dict):
        return pa.struct([(name, arrow_type(inner)) for name, inner in spec.items()])
    return pa.type_for_alias(spec)
