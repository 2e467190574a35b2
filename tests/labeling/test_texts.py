"""Answers belong to texts: an input that is edited while it is judged, and put back, gives no row another's label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling.answers.digest import digest_of
from preftree.labeling.data import dataset
from preftree.labeling.options.reading import AggregateOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs import job
from preftree.labeling.runs.aggregate import aggregate
from preftree.labeling.runs.run import run_label
from preftree.labeling.types import Message, Pair, Rejected, Response, ResponseSet, Sample
from tests.labeling.fakes import FakeScorer, fake_scorer_factory, open_fake_method, row, write_rows

ROWS = 60


class Editing(FakeScorer):
    """Writes another input after some windows of one row, and ends as it is told."""

    def __init__(self, at: int, source: Path, data: bytes, error: BaseException | None = None) -> None:
        super().__init__(window_tokens=1)
        self._at, self._source, self._data, self._error = at, source, data, error

    def score(self, encoded: Sequence[Any]) -> Any:
        if len(self.calls) == self._at:
            self._source.write_bytes(self._data)
        if len(self.calls) == 2 * self._at and self._error:
            raise self._error
        return super().score(encoded)


def texts(directory: Path, word: str) -> bytes:
    """An input of many kilobytes, more than is read ahead of a batch."""
    rows = [row(id=f"id {n}", response_a=f"{word} {n} " + "x" * 4000) for n in range(ROWS)]
    return write_rows(directory / f"{word}.jsonl", rows).read_bytes()


def label(source: Path, out: Path, scorer: FakeScorer | None = None) -> bytes:
    run_label(LabelOptions(input=str(source), out=str(out), quiet=True), fake_scorer_factory(scorer), open_fake_method)
    return (out / "labels.parquet").read_bytes()


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An input that was edited in mid-run and put back after a crash: the run has answers about both texts."""
    monkeypatch.setattr(dataset, "_ROWS", 8)
    ours, theirs = texts(tmp_path, "this"), texts(tmp_path, "that")
    source = tmp_path / "in.jsonl"
    source.write_bytes(ours)
    label(source, tmp_path / "whole")
    with pytest.raises(ZeroDivisionError):
        label(source, tmp_path / "out", Editing(20, source, theirs, ZeroDivisionError()))
    assert source.read_bytes() == theirs
    source.write_bytes(ours)
    return source


def test_edited_and_put_back(edited: Path, tmp_path: Path) -> None:
    """Catches labels of the other text, and rows that are judged again for nothing."""
    scorer = FakeScorer()
    assert label(edited, tmp_path / "out", scorer) == (tmp_path / "whole" / "labels.parquet").read_bytes()
    assert 2 * 20 < sum(scorer.calls) < 2 * (ROWS - 10)


def test_aggregate_refuses_them(edited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches the same where no model is there to judge them again."""
    monkeypatch.setattr(job, "open_method", open_fake_method)
    parts = sorted((tmp_path / "out" / "answers").iterdir())
    label(edited, tmp_path / "done")
    for part in parts:
        (tmp_path / "done" / "answers" / part.name.replace("part-0000", "part-9999")).write_bytes(part.read_bytes())
    said = r"the answers of row \d+ \(id \d+\) are about another text than is in .*judge it again"
    with pytest.raises(OutputError, match=said):
        aggregate(AggregateOptions(run=str(tmp_path / "done"), quiet=True))
    assert label(edited, tmp_path / "done") == (tmp_path / "whole" / "labels.parquet").read_bytes()


def test_edited_and_put_back_within_one_run(tmp_path: Path) -> None:
    """Catches the same where nobody crashes: the hash of the file is right at the beginning and at the end."""
    ours, theirs = texts(tmp_path, "this"), texts(tmp_path, "that")
    source = tmp_path / "in.jsonl"
    source.write_bytes(ours)
    whole = label(source, tmp_path / "whole")

    class Back(Editing):
        def score(self, encoded: Sequence[Any]) -> Any:
            if len(self.calls) == 50:
                source.write_bytes(ours)
            return super().score(encoded)

    assert label(source, tmp_path / "out", Back(20, source, theirs)) == whole


def test_digests_tell_texts_apart() -> None:
    """Catches two rows of one digest because their texts are the same one after another."""
    prompt = (Message("user", "ab"),)
    samples: list[Sample] = [
        Pair("x", prompt, "c", "d"),
        Pair("y", prompt, "c", "d"),
        Pair("x", (Message("user", "a"),), "bc", "d"),
        Pair("x", (Message("user", "a"), Message("user", "b")), "c", "d"),
        Pair("x", (Message("system", "ab"),), "c", "d"),
        Pair("x", prompt, "cd", ""),
        Response("x", prompt, "cd"),
        Pair("x", prompt, "c\0d", "e"),
        Pair("x", prompt, "c", "d\0e"),
        ResponseSet("x", prompt, ("c", "d", "")),
    ]
    digests = {digest_of(sample) for sample in samples}
    assert (len(digests), None in digests) == (len(samples), False)
    assert digest_of(Pair("x", prompt, "c", "d", gold="a", line=7)) == digest_of(samples[0])
    assert digest_of(Rejected(3, "bad")) is None
