"""What a file holds: told by its first bytes; only text is told apart by its name."""

from __future__ import annotations

from functools import partial

from preftree.engine.errors import InputError
from preftree.labeling.data import arrow
from preftree.labeling.data.csv import Csv, Tsv
from preftree.labeling.data.jsonl import BLANK, BOM, JsonLines
from preftree.labeling.data.llmbar import LlmBar
from preftree.labeling.data.source import PICKLED, File, Source, compression_of, reading
from preftree.labeling.regular_file import kind_of, open_regular

_TABLES = {".csv": Csv, ".tsv": Tsv}
_BINARY = {".parquet": "Parquet", ".arrow": "Arrow", ".feather": "Arrow"}
_JSON = (".jsonl", ".ndjson", ".json")
ENDINGS = (*_JSON, *_TABLES, *_BINARY)


def open_source(file: File) -> Source:
    """Raises InputError for what is not there, cannot be read, or is no input; contents are looked at later."""
    head = _head(file)
    if head.startswith(arrow.PARQUET_MAGIC):
        return arrow.Table(file.name, "Parquet", partial(arrow.parquet_batches, file))
    if head.startswith((arrow.FILE_MAGIC, arrow.STREAM_MAGIC)):
        return arrow.Table(file.name, "Arrow", partial(arrow.arrow_batches, file))
    compression = compression_of(file, head)
    *_, ending = suffixes = [suffix.lower() for suffix in file.path.suffixes] or [""]
    if compression is None and ending in _BINARY:
        raise InputError(f"{file} is no {_BINARY[ending]}, whatever its name says; get it whole again, or rename it")
    if compression and len(suffixes) > 1 and ending not in _TABLES:
        ending = suffixes[-2]
    if ending in _BINARY:
        raise InputError(f"{file} is {_BINARY[ending]} compressed with {compression}; unpack it")
    if ending in _TABLES:
        return _TABLES[ending](file, compression)
    begin = head.removeprefix(BOM).lstrip(BLANK)
    if ending in PICKLED:
        raise InputError(f"{file} is a pickle by its name, and pickles are never read; save the rows as Parquet")
    if compression is None and ending not in _JSON and not begin.startswith((b"{", b"[")) and begin:
        raise InputError(f"{file} is neither JSON nor Parquet nor Arrow; if it is CSV, name it .csv")
    return (LlmBar if LlmBar.is_named(file) else JsonLines)(file, compression)


def _head(file: File) -> bytes:
    """The first bytes of a file. The input is read more than once, so a pipe will not do."""
    with reading(file):
        if kind := kind_of(file.path.stat().st_mode):
            raise InputError(
                f"{file} is not a plain file but {kind}, and the input is read twice; use - for standard input, or "
                "save it to a file first"
            )
        with open_regular(file.path) as opened:
            return opened.read(64)
