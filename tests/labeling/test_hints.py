"""What is said where columns are not known, or a column named gold holds something else."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError
from preftree.labeling.types import Pair
from tests.labeling.fakes import row, write_rows
from tests.labeling.opened import info_of, read


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        (
            ("question", "guess 1", "guess 2", "guess 3"),
            "--map prompt=question --map 'response_a=guess 1' --map 'response_b=guess 2'",
        ),
        (
            ("context", "answer_a", "answer_b"),
            "--map prompt=context --map response_a=answer_a --map response_b=answer_b",
        ),
        (("post", "0", "1"), "--map prompt=COLUMN --map response_a=0 --map response_b=1"),
        (("prompt", "better", "worse"), "--map response_a=better --map response_b=worse"),
        (("promt", "response_a", "response_b"), "--map prompt=promt"),
        (
            ("question", "response_1", "response_2"),
            "--map prompt=question --map response_a=response_1 --map response_b=response_2",
        ),
        (("prompt", "a text"), "--map response_a=COLUMN --map response_b=COLUMN"),
    ],
)
def test_likely_columns_are_named(tmp_path: Path, columns: tuple[str, ...], hint: str) -> None:
    """Catches a hint to type that the shell takes apart, that is no way out, or that leaves names to be found."""
    path = write_rows(tmp_path / "in.jsonl", [dict.fromkeys(columns, "text")])
    with pytest.raises(InputError, match="no columns that are known; name them, such as ") as raised:
        info_of(path)
    assert str(raised.value).endswith(f"such as {hint}")
    if "COLUMN" not in hint:
        [pair] = read(path, mapping=[word for word in shlex.split(hint) if word != "--map"])
        assert isinstance(pair, Pair)


@pytest.mark.parametrize(
    ("golds", "is_said"),
    [(("A whole answer.", "Another."), True), (("A whole answer.", "a"), False), (("", ""), False)],
)
def test_a_gold_that_is_something_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, golds: tuple[Any, ...], is_said: bool
) -> None:
    """Catches reference answers in a column named gold that leave labels without gold in silence."""
    rows = [row(id=str(place)) | {"better": gold} for place, gold in enumerate(golds)]
    info_of(write_rows(tmp_path / "in.jsonl", rows), ["gold=better"])
    said = "column better says of no row which response is better (a, b, tie, 0, 1), so labels have no gold; if"
    assert (said in caplog.text) == is_said
