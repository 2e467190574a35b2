"""`preftree plan`: totals, reasons of rejected rows, progress, and the time that a job takes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from preftree.labeling import cli
from preftree.labeling.runs import plan
from tests.labeling.commands import one_error
from tests.labeling.fakes import MINE, FakeEncoded, FakeScorer, row, write_rows
from tests.processes import start_python


def test_plan(scorer: FakeScorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches totals of the last window alone, a model that runs, and prompts that steer the terminal."""
    rows: list[Any] = [b"bad", *(row(id=i, response_a=f"\x1b]0;owned\x07\u202e{i}\n\tend") for i in range(10, 20))]
    scorer.window_tokens = 100
    assert cli.main(["plan", str(write_rows(tmp_path / "in.jsonl", rows))]) == 0
    captured = capsys.readouterr()
    tokens = 10 * 2 * len("Which?|\x1b]0;owned\x07\u202e10\n\tend|that".encode())
    for part in (
        "rows           11, 1 of them to be rejected\nrejected       line 1: broken JSON: ",
        "prompts        20",
        f"prompt tokens  {tokens}",
        "sharing        2.0",
        "batches        10",
        "5 MiB of weights",
        "3 MiB at the peak",
        'label ids      "1" = [11]',
        '"2" = [12]',
        "---- first prompt: 10, A first ----",
        "<|user|>Which?|\\x1b]0;owned\\x07\\u202e10\n\tend|that<|answer|>Answer: ",
    ):
        assert part in captured.out
    assert captured.err == ""
    assert scorer.calls == []
    assert cli.main(["plan", str(tmp_path / "in.jsonl"), "--limit", "1"]) == 0
    assert "no row of the input can be labelled" in capsys.readouterr().out


def test_a_reader_that_leaves_is_no_failure(pairs: Path) -> None:
    """Catches `preftree plan ... | head -1` that ends in BrokenPipeError."""
    code = (
        "import sys\n"
        "from preftree.labeling import cli\n"
        "from preftree.labeling.runs import plan\n"
        "from tests.labeling.fakes import FakeScorer, open_fake_method\n"
        "plan.open_method, plan.load_judge = open_fake_method, lambda options, weights=True: FakeScorer()\n"
        "sys.stdin.read()\n"
        "sys.exit(cli.main(['plan', sys.argv[1]]))"
    )
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = start_python("-c", code, pairs, **pipes)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) == 0


def test_plan_of_a_template_of_ones_own(
    pairs: Path, small_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches long instructions behind the responses, computed for every prompt, that nobody is told of."""
    mine = tmp_path / "mine.txt"
    command = ["plan", str(pairs), "--model", small_model, "--plain", "--template", str(mine)]
    mine.write_text(MINE % "Which?")
    assert cli.main(command) == 0
    text = capsys.readouterr().out
    for part in ("prompts        4, 2 a row", "sharing  ", 'label ids      "1" = [', '"2" = ['):
        assert part in text
    assert text.endswith("\nChoose.\n\nWhich?\nOne: this\nTwo: that\nWhich?\n\nBetter: \n")
    assert "warning" not in text
    mine.write_text(MINE % ("Be fair. " * 30))
    assert cli.main(command) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("warning") == 1
    assert (
        f"warning {mine}:9: 271 characters of fixed text come after a variable and are computed anew for every "
        "row; in the preamble they are computed once"
    ) in text


def test_reasons_of_rejected_rows(scorer: FakeScorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a number of rejected rows that says neither why nor where."""
    blank = [row(id=f"blank {k}", prompt=" ") for k in range(3)]
    bad: list[Any] = [*blank, b"bad", row(id="x"), row(id="y", prompt="TOO LONG")]
    source = write_rows(tmp_path / "in.jsonl", [row(id="x"), *bad])
    assert cli.main(["plan", str(source)]) == 0
    lines = capsys.readouterr().out.splitlines()
    begin = lines.index("rows           7, 6 of them to be rejected") + 1
    assert " ".join(" ".join(lines[begin : begin + 2]).split()) == (
        "rejected blank text (3); broken JSON (1); duplicate id (1); "
        "the prompt has N tokens, the model's context is N (1)"
    )
    begin += 1
    places = [line.split(":")[0].strip() for line in lines[begin + 1 : begin + 6]]
    assert places == ["line 2", "line 3", "line 4", "line 5", "line 6"]
    assert lines[begin + 6].strip() == "and 1 more row"


def test_progress_is_on_stderr_alone(
    scorer: FakeScorer, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches silence while a long file is planned, and progress in what a pipe reads."""
    assert cli.main(["plan", str(pairs)]) == 0
    at_once = capsys.readouterr()
    assert at_once.err == ""

    def slow(encoded: Sequence[FakeEncoded], planned: Any = scorer.plan) -> Any:
        time.sleep(1.3)
        return planned(encoded)

    monkeypatch.setattr(scorer, "plan", slow)
    monkeypatch.setattr("preftree.labeling.progress._SECONDS_BETWEEN_LINES", 1.1)
    assert cli.main(["plan", str(pairs)]) == 0
    slowly = capsys.readouterr()
    assert slowly.out == at_once.out
    assert slowly.err.startswith("0 of 2 rows, ")
    assert cli.main(["plan", str(pairs), "--quiet"]) == 0
    assert capsys.readouterr() == at_once


def test_plan_measures_when_asked(
    scorer: FakeScorer, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches weights that are loaded to plan and not to measure, an estimate for no rows, and files left behind."""
    loaded = []

    def load(options: Any, weights: bool) -> FakeScorer:
        loaded.append(weights)
        return scorer

    monkeypatch.setattr(plan, "load_judge", load)
    assert cli.main(["plan", str(pairs)]) == 0
    plain = capsys.readouterr().out
    assert scorer.calls == []
    before = sorted(pairs.parent.rglob("*"))
    assert cli.main(["plan", str(pairs), "--measure"]) == 0
    captured = capsys.readouterr()
    assert loaded == [False, True]
    assert scorer.calls == [4]
    assert sorted(pairs.parent.rglob("*")) == before
    assert captured.err == "loading embedded\nrunning fake, plain prompts, to measure\n"
    added = [line for line in captured.out.splitlines() if line not in plain.splitlines()]
    assert [line[:15].strip() for line in added] == ["measured", "time", ""]
    assert added[0][15:].startswith("2 of 2 rows in 0.0 s: ")
    assert "for loading the model" in added[2]
    none = write_rows(pairs.with_name("none.jsonl"), [b"bad"])
    assert cli.main(["plan", str(none), "--measure", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "no row of the input can be labelled" in captured.out
    assert "measured" not in captured.out


def test_a_measurement_that_is_interrupted(
    scorer: FakeScorer, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a traceback after Ctrl-C."""

    def interrupted(windows: Iterable[Any], progress: Any = None) -> Iterator[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(scorer, "score_stream", interrupted)
    assert cli.main(["plan", str(pairs), "--measure", "--quiet"]) == 130
    assert one_error(capsys) == "preftree: interrupted"
