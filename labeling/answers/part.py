"""A file of answers, which gets its name when it is complete and never changes afterwards.

The name is `part-SEQUENCE-CHECKSUM.parquet`. The checksum is of all bytes of the file, so that a cut or flipped one is
found whatever Parquet makes of it. It also serves where files get their names before they are complete, as on some
object stores: bytes that do not match the name are no part, in flight or damaged, and their rows are judged again. So
nothing lists the parts that are whole. The sequence number tells which of two parts is the later one; processes that
write at the same time may use one twice, and then the checksum decides, so that there is one order.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.answers.entry import Entry, table_of
from preftree.labeling.data.folder import Folder
from preftree.labeling.regular_file import read

FORMAT = 2
PATTERN = "part-*.parquet"
_NAME = re.compile(r"part-(\d+)-([0-9a-f]{16})\.parquet")
_KEY = b"preftree"


@dataclass(frozen=True)
class Attempt:
    """A process that worked on the run.

    Attributes:
        name: by which it is told from others.
        started: in seconds since 1970.
        committed: when its last part was written.
        rows: that it finished up to then.
        usage: running totals by name, up to then.
        host: what it ran on, see `preftree.labeling.answers.host`; empty in parts of earlier versions.
    """

    name: str
    started: float
    committed: float
    rows: int
    usage: Mapping[str, float]
    host: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Part:
    """A whole file of answers.

    Attributes:
        folder: where it is.
        name: in there.
        run: hash of what answers depend on, see `preftree.labeling.runs.manifest.answers_key`.
        first: the lowest row number in it.
        attempts: those that its rows come from, as they were when it was written.
        size: bytes.
        spans: runs of rows in it that follow on one another and have one state, see `_spans`.
    """

    folder: Folder
    name: str
    run: str
    first: int
    attempts: tuple[Attempt, ...]
    size: int
    spans: Any = field(compare=False, repr=False)

    @property
    def path(self) -> Path:
        """Itself or a copy on this machine. Raises OSError."""
        return self.folder.local(self.name)

    @property
    def sequence(self) -> int:
        """Higher in later parts."""
        return int(_name(self.name)[1])

    @property
    def order(self) -> tuple[int, str]:
        """Where two parts hold one row, the one that is higher in this order counts."""
        return self.sequence, self.name

    def batches(self, lines: int, schema: Any) -> Iterator[Any]:
        """Record batches of so many lines, in the order of row numbers.

        schema: of `lines_schema`, or of some of its columns.
        """
        import pyarrow as pa
        from pyarrow import parquet

        # Without threads, as in `open_part`; parts are small.
        with parquet.ParquetFile(self.path, pre_buffer=False) as file:
            there = [name for name in schema.names if name in file.schema_arrow.names]
            for batch in file.iter_batches(lines, columns=there, use_threads=False):
                arrays = [
                    batch.column(field.name) if field.name in there else pa.nulls(len(batch), field.type)
                    for field in schema
                ]
                yield pa.record_batch(arrays, schema=schema)


class DamagedPart(Exception):
    """A file that is not what was written under its name. The message says why."""


def write_part(folder: Folder, sequence: int, run: str, entries: Sequence[Entry], attempts: Sequence[Attempt]) -> Part:
    """entries: one or more, sorted by number. Raises OSError, and then nothing is left."""
    return write_lines(folder, sequence, run, table_of(entries), attempts)


def write_lines(folder: Folder, sequence: int, run: str, table: Any, attempts: Sequence[Attempt]) -> Part:
    """table: of `table_of` for one or more rows. Raises OSError, and then nothing is left."""
    from pyarrow import parquet

    # Beside the attempts, whose fields earlier versions know one by one.
    hosts = {one.name: dict(one.host) for one in attempts if one.host}
    recorded = [{name: value for name, value in asdict(one).items() if name != "host"} for one in attempts]
    header = {"format": FORMAT, "run": run, "first": table["row"][0].as_py(), "attempts": recorded, "hosts": hosts}
    table = table.replace_schema_metadata({_KEY: json.dumps(header)})
    buffer = BytesIO()
    parquet.write_table(table, buffer, compression="zstd", use_dictionary=["id", "reason"])
    data = buffer.getvalue()
    return _part(folder, _written(folder, sequence, data), len(data), header, _spans(table))


def copied_part(part: Part, folder: Folder, sequence: int) -> Part:
    """The same in another folder. Raises OSError and DamagedPart."""
    return replace(part, folder=folder, name=_written(folder, sequence, _checked(part.folder, part.name)))


def open_part(folder: Folder, name: str) -> Part:
    """Reads and checks a whole file. Raises DamagedPart, OSError, and OutputError for a format of a later preftree."""
    from pyarrow import BufferReader, parquet

    data = _checked(folder, name)
    # Without threads: a process that ends soon after they were started may abort.
    with parquet.ParquetFile(BufferReader(data), pre_buffer=False) as file:
        header: dict[str, Any] = json.loads(file.schema_arrow.metadata[_KEY])
        if header["format"] != FORMAT:
            place = folder.place(name)
            raise OutputError(
                f"{place} has format {header['format']} of answers, this preftree reads {FORMAT}; finish the run with "
                "the version that began it (`versions` in run.json), or label again: --overwrite"
            )
        lines = file.read(columns=["row", "reason"], use_threads=False)
    return _part(folder, name, len(data), header, _spans(lines))


def _spans(lines: Any) -> Any:
    """A NumPy array with a line for each run of neighbours: its first row, the one after its last, and 1 if rejected.

    lines: a table in the order of rows.
    """
    import numpy as np

    numbers, rejected = lines["row"].to_numpy(), lines["reason"].is_valid().to_numpy()
    firsts = np.flatnonzero(np.diff(numbers, prepend=-1))
    numbers, rejected = numbers[firsts], rejected[firsts]
    starts = np.flatnonzero((np.diff(numbers, prepend=-2) != 1) | (np.diff(rejected, prepend=~rejected[:1]) != 0))
    ends = np.append(starts[1:], len(numbers)) - 1
    return np.column_stack([numbers[starts], numbers[ends] + 1, rejected[starts]]).astype(np.int64)


def _part(folder: Folder, name: str, size: int, header: Mapping[str, Any], spans: Any) -> Part:
    hosts = header.get("hosts", {})
    attempts = tuple(Attempt(**one, host=hosts.get(one["name"], {})) for one in header["attempts"])
    return Part(folder, name, header["run"], header["first"], attempts, size, spans)


def _written(folder: Folder, sequence: int, data: bytes) -> str:
    name = f"part-{sequence:06}-{_checksum(data)}.parquet"
    folder.write(name, data)
    return name


def _checked(folder: Folder, name: str) -> bytes:
    """All bytes of a part. Raises OSError and DamagedPart."""
    checksum = _name(name)[2]
    data = read(folder.local(name))
    if _checksum(data) != checksum:
        raise DamagedPart("its checksum is not that of its bytes")
    return data


def _name(text: str) -> re.Match[str]:
    name = _NAME.fullmatch(text)
    if name is None:
        raise DamagedPart("its name is not that of a part")
    return name


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
