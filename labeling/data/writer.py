"""Labels into a directory: `labels.parquet`, written as a stream under another name until it is complete."""

from __future__ import annotations

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


def check_out_file(path: Path, overwrite: bool) -> None:
    """Raises OutputError where a file cannot go, or must not without `overwrite`."""
    if path.is_dir():
        raise OutputError(f"{path} is a directory; name a file")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path} exists already; name another file, or replace it with --overwrite")
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: {path.absolute().parent} is no writable directory")


class LabelWriter:
    """A context: `add` rows, then `publish`. Left without `publish`, it leaves nothing.

    The bytes of the file depend on nothing but the rows, in their order.
    """

    def __init__(self, out_dir: str | Path, survey: Survey, columns: Mapping[str, ArrowType]) -> None:
        """out_dir: a directory. columns: those of the labels' method, see `labeling.types.Label`."""
        import pyarrow as pa
        from pyarrow import parquet

        self._survey = survey
        self._columns = columns
        self._schema = _schema(survey, columns)
        self._with_text = [place for place, field in enumerate(self._schema) if _may_hold_text(field.type)]
        self._rows: list[list[Any]] = []
        self._chars = 0
        with guarded(Path(out_dir)):
            self._draft = Draft(Path(out_dir) / LABELS)
        self._sink = _Sink(self._draft)
        self._parquet = parquet.ParquetWriter(pa.PythonFile(self._sink, mode="w"), self._schema)

    def __enter__(self) -> LabelWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.muted = True
        with suppress(Exception):
            self._parquet.close()
        self._draft.discard()

    def add(self, item: Sample | Rejected, label: Label | None) -> None:
        """Appends a row. Raises OutputError."""
        row = self._label_values(item, label)
        if self._survey.has_gold:
            row.append(getattr(item, "gold", None))
        extra = item.extra
        row += [stored(extra.get(name), kind) for name, kind in self._survey.columns.items()]
        self._rows.append(row)
        texts = [row[place] for place in self._with_text]
        self._chars += sum([len(text) if isinstance(text, str) else _characters(text) for text in texts])
        if len(self._rows) >= _GROUP_ROWS or self._chars >= _GROUP_CHARS:
            with guarded(self._draft.final.parent):
                self._flush()

    def publish(self) -> None:
        """Gives the file its name, in the place of an older one. Raises OutputError."""
        with guarded(self._draft.final.parent):
            self._flush()
            self._parquet.close()
            self._draft.seal()
            self._draft.publish()
            sync_directory(self._draft.final.parent)

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._rows:
            return
        columns = zip(*self._rows, strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._parquet.write_table(pa.Table.from_arrays(arrays, schema=self._schema), len(self._rows))
        self._rows, self._chars = [], 0

    def _label_values(self, item: Sample | Rejected, label: Label | None) -> list[Any]:
        """The values of `label_columns`, in their order."""
        if isinstance(item, Rejected):
            nothing = ["none" if name == "verdict" else None for name in self._columns]
            return [item.id, *nothing, "rejected", f"line {item.line}: {item.reason}", None]
        assert label is not None
        values = label.values()
        return [item.id, *[values[name] for name in self._columns], "ok", None, label.prompt_tokens]


@contextmanager
def guarded(directory: Path) -> Iterator[None]:
    """What keeps a run's directory from being written becomes an OutputError, and says how to go on."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write to {directory}: {error.strerror or error}; finished rows are kept: put that right and run "
            "the same command again"
        ) from error


def _may_hold_text(kind: Any) -> bool:
    from pyarrow import types

    return types.is_string(kind) or types.is_nested(kind)


def _characters(value: Any) -> int:
    """Of all texts in it: rationales may lie in lists, and these in the principles of a row."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list | dict):
        return sum(map(_characters, value.values() if isinstance(value, dict) else value))
    return 0


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
