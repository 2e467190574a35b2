"""How much is read and encoded before a run has something to show: the first rows do not wait for many others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError
from preftree.labeling import cli
from preftree.labeling.data.layout import Layout
from preftree.labeling.pipeline import Waiting, encoded_rows, label_samples, windows
from preftree.labeling.progress import Progress
from preftree.labeling.runs import plan, run
from preftree.labeling.types import Message, Pair, Rejected
from tests.labeling.fakes import FakeEncoded, FakeMethod, FakeScorer, open_fake_method, row, write_rows

ROWS = 3000


class Counted:
    """Rows that were made samples since the model was loaded, when progress first moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scorer: FakeScorer) -> None:
        self.read, self.at_first = 0, None
        item_of, advance = Layout.item_of, Progress.advance

        def reading(layout: Layout, *given: Any) -> Any:
            self.read += 1
            return item_of(layout, *given)

        def moving(progress: Progress, rows: int = 1) -> None:
            self.at_first = self.at_first or self.read
            advance(progress, rows)

        def load(options: Any, weights: bool = True) -> FakeScorer:
            self.read = 0
            return scorer

        monkeypatch.setattr(Layout, "item_of", reading)
        monkeypatch.setattr(Progress, "advance", moving)
        for module in (plan, run):
            monkeypatch.setattr(module, "load_judge", load)
            monkeypatch.setattr(module, "open_method", open_fake_method)


def pair(number: int, response: str = "this") -> Pair:
    return Pair(str(number), (Message("user", "Which?"),), f"{number} {response}", "that")


@pytest.mark.parametrize("command", ["plan", "label"])
@pytest.mark.parametrize("letters", [10, 5000])
def test_few_rows_are_read_before_progress_moves(
    command: str, letters: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a thousand long rows that are read, or whose prompts are encoded, before the first is labelled."""
    long = "x" * letters
    source = write_rows(
        tmp_path / "in.jsonl", [row(id=number, response_a=f"{number} {long}") for number in range(ROWS)]
    )
    counted = Counted(monkeypatch, FakeScorer())
    out = [] if command == "plan" else ["--out", str(tmp_path / "out")]
    assert cli.main([command, str(source), *out]) == 0
    assert counted.at_first is not None
    assert 0 < counted.at_first <= 64
    assert counted.read >= ROWS


def test_rows_that_are_too_long_do_not_hold_progress_up() -> None:
    """Catches a thousand long rows that are encoded, and rejected, before anybody hears of the first."""
    pulled = 0

    def items() -> Iterator[Pair | Rejected]:
        nonlocal pulled
        for number in range(ROWS):
            pulled += 1
            yield pair(number, "TOO LONG" if number < ROWS - 10 else "this")

    handed, labelled = 0, []
    for window in windows(items(), FakeMethod(), FakeScorer()):  # type: ignore[arg-type]
        handed += len(window)
        assert pulled <= handed + 2
        assert len(window) <= 32
        labelled += [entry for entry in window if isinstance(entry, Waiting)]
    assert handed == ROWS
    assert len(labelled) == 10


@pytest.mark.parametrize("window_tokens", [1, 2000, 10**9])
def test_rows_are_taken_as_windows_need_them(window_tokens: int) -> None:
    """Catches rows whose prompts are encoded while the rows before them could be labelled."""
    pulled = 0

    def items() -> Iterator[Pair | Rejected]:
        nonlocal pulled
        for number in range(ROWS):
            pulled += 1
            yield pair(number)

    handed, whole = 0, FakeScorer(window_tokens)
    for window in windows(items(), FakeMethod(), whole):  # type: ignore[arg-type]
        handed += len(window)
        assert pulled <= handed + 32
        assert window_tokens > 1 or pulled <= handed + 2
    assert handed == ROWS


def test_rows_together_are_rows_alone() -> None:
    """Catches prompts that get to another row, where some rows are rejected before they are encoded or by it."""

    class Together(FakeScorer):
        def encode_all(self, requests: list[Any]) -> list[FakeEncoded | InputError]:
            found: list[FakeEncoded | InputError] = []
            for request in requests:
                try:
                    found.append(self.encode(request))
                except InputError as error:
                    found.append(error)
            return found

    items: list[Pair | Rejected] = [
        pair(1),
        Rejected(2, "bad"),
        pair(3, "TOO LONG"),
        pair(4),
        Rejected(5, "bad"),
        pair(6),
    ]
    scorers: list[Any] = [FakeScorer(), Together()]
    one, other = (encoded_rows(items, FakeMethod(), scorer) for scorer in scorers)
    assert one == other
    assert [type(entry) for entry in one] == [Waiting, Rejected, Rejected, Waiting, Rejected, Waiting]
    labels = [list(label_samples(items, FakeMethod(), scorer)) for scorer in scorers]
    assert labels[0] == labels[1]
