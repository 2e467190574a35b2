"""Text files that begin oddly or hold nothing: no line speaks for the others, and nothing is counted fast."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from preftree.engine.errors import InputError
from preftree.labeling.types import Pair, Rejected
from tests.labeling.fakes import row
from tests.labeling.files import json_lines
from tests.labeling.opened import info_of, read
from tests.stopwatch import within

PREFERENCE = {"prompt": "Which?", "chosen": "this", "rejected": "that"}
NOTHING = 1 << 28  # blank lines: a quarter of a gigabyte
SECONDS = 20


def items(path: Path, content: bytes) -> list[Any]:
    path.write_bytes(content)
    info_of(path)
    return list(read(path))


@pytest.mark.parametrize(
    "odd",
    [
        {"instruction": "x", "output": "y"},
        {"instruction": "x", "output_1": "y", "output_2": "z"},
        {"prompt": "x", "response_a": "y", "response_b": "z"},
        {"prompt": "x", "response": "y"},
        {"info": {}, "summaries": [], "choice": 0},
        {"version": 1},
        {"chosen": ["x"], "rejected": 1},
    ],
)
@pytest.mark.parametrize("place", [0, 2])
def test_one_odd_object(tmp_path: Path, odd: dict[str, Any], place: int) -> None:
    """Catches a file refused as two things at once, or taken for what one of its rows is."""
    rows: list[dict[str, Any]] = [PREFERENCE] * 4
    rows.insert(place, odd)
    found = items(tmp_path / "x.jsonl", json_lines(rows))
    assert [type(item) for item in found] == [Rejected if n == place else Pair for n in range(5)]
    assert info_of(tmp_path / "x.jsonl").about.endswith(
        "explicit prompt: response A is chosen, B is rejected, gold is A"
    )


def test_as_many_of_either_is_still_refused(tmp_path: Path) -> None:
    """Catches half of a file rejected row by row, because a guess is made where nothing tells."""
    other = {"instruction": "x", "output_1": "y", "output_2": "z"}
    with pytest.raises(InputError, match="could be preferences or AlpacaEval pairs"):
        items(tmp_path / "x.jsonl", json_lines([PREFERENCE, PREFERENCE, other, other]))
    with pytest.raises(InputError, match="could be preferences or AlpacaEval pairs"):
        items(tmp_path / "x.jsonl", json_lines([PREFERENCE | other] * 5))


@pytest.mark.parametrize("first", [b"[]", b'["prompt", "chosen"]', b"[[1], 2] ", b"\xef\xbb\xbf[1]\n", b"# rows", b"{"])
def test_a_first_line_that_is_no_object(tmp_path: Path, first: bytes) -> None:
    """Catches a list on the first line taken for the beginning of one array that the whole file is."""
    bad, *good = items(tmp_path / "x.jsonl", first + b"\n" + json_lines([row(id=None)] * 2))
    assert (type(bad), bad.line) == (Rejected, 1)
    assert [type(item) for item in good] == [Pair, Pair]


@pytest.mark.parametrize("first", [b"My rows", b"sep=,", b"\n\n", b'"A title, quoted"', b"\xef\xbb\xbf\n"])
def test_csv_with_a_line_above_its_header(tmp_path: Path, first: bytes) -> None:
    """Catches a title or what Excel writes taken for the header, and every row rejected for it."""
    content = first + b"\nprompt,response_a,response_b\nWhich?,this,that\nWhich?,this,that\n"
    found = items(tmp_path / "x.csv", content)
    assert [(type(item), item.line) for item in found] == [(Pair, 1), (Pair, 2)]
    with pytest.raises(InputError, match="separates its columns by ';'"):
        items(tmp_path / "x.csv", b"sep=;\nprompt;response_a;response_b\na, b;c, d;e\n")


def test_blank_lines_inside_of_quotes_are_text(tmp_path: Path) -> None:
    """Catches text lost where lines are skipped, in a field or after one."""
    text = b"a" + b"\n" * 5000 + b"b\r\n\r\n"
    content = b'prompt,response_a,response_b\n\n\nWhich?,"' + text + b'",that\n\n\r\nWhich?,"' + text + b'\n",that\n\n'
    first, second = items(tmp_path / "x.csv", content)
    assert (first.response_a, second.response_a) == (text.decode(), text.decode() + "\n")


def test_lines_are_numbered_across_blank_ones(tmp_path: Path) -> None:
    """Catches numbers that no editor shows, at every place of a line in a buffer."""
    for between in (0, 1, 2, 131_070, 131_071, 131_072, 131_073, 300_000):
        good = json.dumps(row(id=None)).encode()
        found = items(tmp_path / "x.jsonl", good + b"\n" + b"\n" * between + b" \t\r\n" + good + b"\n")
        assert [item.line for item in found] == [1, between + 3]
        assert [type(item) for item in found] == [Pair, Pair]


@pytest.mark.parametrize("name", ["x.jsonl.zst", "x.csv.zst", "x.jsonl.gz"])
@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
def test_a_bomb_of_blank_lines(tmp_path: Path, name: str, line: bytes) -> None:
    """Catches a few kilobytes that take minutes: blank lines were read one by one, in each of several passes."""
    lines = NOTHING // (16 if name.endswith("gz") else 1)
    blank = pa.py_buffer(line * (lines // len(line)))
    path = tmp_path / name
    path.write_bytes(gzip.compress(blank, 1) if name.endswith("gz") else pa.Codec("zstd").compress(blank, asbytes=True))
    assert path.stat().st_size < NOTHING // 1000
    with within(SECONDS), pytest.raises(InputError, match="holds no rows"):
        info_of(path)
