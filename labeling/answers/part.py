"""A file of answers, which gets its name when it is complete and never changes afterwards.

The name is `part-SEQUENCE-CHECKSUM.parquet`. The checksum is of all bytes of the file, so that a cut or flipped one is
found whatever Parquet makes of it. The sequence number tells which of two parts is the later one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from preftree.engine.errors import OutputError
from preftree.labeling.answers.entry import Entry, entries_of, table_of
from preftree.labeling.data.atomic import Draft, sync_directory

FORMAT = 2
PATTERN = "part-*.parquet"
_NAME = re.compile(r"part-(\d+)-([0-9a-f]{16})\.parquet")
_KEY = b"preftree"
_READ_LINES = 8192


@dataclass(frozen=True)
class Attempt:
    """A process that worked on the run.

    Attributes:
        name: by which it is told from others.
        started: in seconds since 1970.
        committed: when its last part was written.
        rows: that it finished up to then.
        usage: running totals by name, up to then.
    """

    name: str
    started: float
    committed: float
    rows: int
    usage: Mapping[str, float]


@dataclass(frozen=True)
class Part:
    """A whole file of answers.

    Attributes:
        path: where it is.
        sequence: higher in later parts; where two hold one row, the later counts.
        run: hash of what answers depend on, see `preftree.labeling.runs.manifest.answers_key`.
        first: the lowest row number in it.
        attempts: those that its rows come from, as they were when it was written.
        size: bytes.
    """

    path: Path
    sequence: int
    run: str
    first: int
    attempts: tuple[Attempt, ...]
    size: int

    def entries(self) -> Iterator[Entry]:
        """In the order of row numbers, each once."""
        from pyarrow import parquet

        with parquet.ParquetFile(self.path) as file:
            yield from entries_of(file.iter_batches(_READ_LINES))

    def states(self) -> tuple[Any, Any, Any]:
        """NumPy arrays: the number of each line's row, whether that was rejected, and the digest of its text.

        A row may have many lines; one that could not be read has digest 0.
        """
        from pyarrow import parquet

        table = parquet.read_table(self.path, columns=["row", "reason", "text"])
        texts = table["text"].fill_null(0).to_numpy()
        return table["row"].to_numpy(), table["reason"].is_valid().to_numpy(), texts


class DamagedPart(Exception):
    """A file that is not what was written under its name. The message says why."""


def write_part(directory: Path, sequence: int, run: str, entries: Sequence[Entry], attempts: Sequence[Attempt]) -> Part:
    """entries: one or more, sorted by number. Raises OSError, and then nothing is left."""
    from pyarrow import parquet

    header = {"format": FORMAT, "run": run, "first": entries[0].number, "attempts": [asdict(one) for one in attempts]}
    table = table_of(entries).replace_schema_metadata({_KEY: json.dumps(header)})
    buffer = BytesIO()
    parquet.write_table(table, buffer, compression="zstd", use_dictionary=["id", "reason"])
    return _published(directory, sequence, buffer.getvalue(), header, attempts)


def copied_part(part: Part, directory: Path, sequence: int) -> Part:
    """The same in another directory. Raises OSError and DamagedPart."""
    data, header = _read(part.path)
    return _published(directory, sequence, data, header, part.attempts)


def open_part(path: Path) -> Part:
    """Reads and checks a whole file. Raises DamagedPart, OSError, and OutputError for a format of a later preftree."""
    data, header = _read(path)
    if header["format"] != FORMAT:
        raise OutputError(
            f"{path} has format {header['format']} of answers, this preftree reads {FORMAT}; finish the run with the "
            "version that began it (`versions` in run.json), or label again: --overwrite"
        )
    attempts = tuple(Attempt(**one) for one in header["attempts"])
    return Part(path, _sequence(path), header["run"], header["first"], attempts, len(data))


def _published(
    directory: Path, sequence: int, data: bytes, header: Mapping[str, Any], attempts: Sequence[Attempt]
) -> Part:
    draft = Draft(directory / f"part-{sequence:06}-{_checksum(data)}.parquet")
    try:
        draft.file.write(data)
        draft.seal()
        draft.publish()
    finally:
        draft.discard()
    sync_directory(directory)
    return Part(draft.final, sequence, header["run"], header["first"], tuple(attempts), len(data))


def _read(path: Path) -> tuple[bytes, dict[str, Any]]:
    """All bytes and the header. The checksum is enough to trust both."""
    from pyarrow import BufferReader, parquet

    name = _NAME.fullmatch(path.name)
    if name is None:
        raise DamagedPart("its name is not that of a part")
    data = path.read_bytes()
    if _checksum(data) != name[2]:
        raise DamagedPart("its checksum is not that of its bytes")
    header: dict[str, Any] = json.loads(parquet.read_schema(BufferReader(data)).metadata[_KEY])
    return data, header


def _sequence(path: Path) -> int:
    name = _NAME.fullmatch(path.name)
    assert name is not None
    return int(name[1])


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
