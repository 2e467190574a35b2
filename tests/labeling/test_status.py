"""What a run says of itself: its command, its dates, how far it is and how good its labels are so far."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling import cli
from preftree.labeling.commands.parser import parse
from preftree.labeling.commands.table import COMMANDS
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs import job
from preftree.labeling.runs.command import command_line
from preftree.labeling.runs.manifest import date
from preftree.labeling.runs.run import run_label
from preftree.labeling.runs.status import status_lines
from tests.labeling.fakes import FakeScorer, fake_scorer_factory, open_fake_method
from tests.labeling.rundir.runs import record, source, stopped

__all__ = ["source"]


def test_a_record_says_how_and_when(source: Path, tmp_path: Path) -> None:
    """Catches a command that makes another run, dates of the last attempt alone, and a record of a later preftree."""
    out = stopped(source, tmp_path / "out", 20, preamble="base", mapping=("id=id",), force_new=True)
    first = record(out)
    words = shlex.split(first["command"])
    chosen = ["--map", "id=id", "--preamble", "base", "--quiet", "--out", str(out)]
    assert words == ["preftree", "label", str(source), *chosen]
    _, again = parse(COMMANDS, words[1:])
    assert isinstance(again, LabelOptions)
    shown = "\n".join(status_lines(out))
    command = shown[shown.index("to resume") :].partition("\n\n")[0]
    assert shlex.split(command.replace("\\\n", " "))[2:] == words
    assert "finished" not in first
    run_label(again, fake_scorer_factory(FakeScorer()), open_fake_method)
    last = record(out)
    assert last["state"] == "complete"
    assert first["started"] <= last["finished"] <= date(time.time())
    assert date(0) == "1970-01-01T00:00:00Z"
    (out / "run.json").write_text(json.dumps(last | {"schema": 2}))
    with pytest.raises(OutputError, match=r"run.json has schema 2, not 1; read it with preftree \S+, which made it"):
        run_label(again, fake_scorer_factory(), open_fake_method)


@pytest.mark.parametrize(
    "words",
    [
        ["label", "a b.jsonl", "c", "--plain", "--no-prefix-cache", "--cot", "--temperature", "0.5", "--out=-x"],
        ["label", "-", "--method", "salmon", "--aggregate", "won", "--batch-tokens", "4000", "--out", "x"],
        ["score", "in.jsonl", "--out", "x", "--scale", "1-5", "--under", "be kind", "short", "--under", "honest"],
        ["reward", "in.jsonl", "--out", "x", "--model", "rm", "--under", "be kind", "--under", "honest"],
    ],
)
def test_a_command_line_means_what_was_chosen(words: list[str]) -> None:
    """Catches a command to resume with that is refused as another run."""
    _, options = parse(COMMANDS, words)
    assert isinstance(options, LabelOptions)
    command = command_line(options)
    assert command[0] == "preftree"
    assert parse(COMMANDS, command[1:])[1] == options


def test_status_shows_figures(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a bad judge that is found out at the end of a run, and a status that fails where the input is gone."""
    monkeypatch.setattr(job, "open_method", open_fake_method)
    out = stopped(source, tmp_path / "out", 20)
    assert cli.main(["status", str(out)]) == 0
    text = capsys.readouterr().out
    assert "figures of           19 rows labelled, 3 rows rejected" in text
    assert "agreement with gold" in text
    source.rename(tmp_path / "moved.jsonl")
    assert cli.main(["status", str(out)]) == 0
    assert "figures cannot be shown: no such file" in capsys.readouterr().out
    assert cli.main(["status", str(out), "--input", str(tmp_path / "moved.jsonl")]) == 0
    assert "agreement with gold" in capsys.readouterr().out
