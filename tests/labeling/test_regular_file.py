"""What is no regular file is refused at once: as input of any kind, and where a file is to be written."""

from __future__ import annotations

import io
import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from preftree.engine.errors import OutputError
from preftree.labeling.cli import main
from preftree.labeling.data.labels_file import LABELS, RUN, check_out_file
from preftree.labeling.principles.sets import load_principles
from preftree.labeling.types import PairLabel
from tests.labeling.child import in_child
from tests.labeling.fakes import FakeScorer, row
from tests.labeling.labelled_run import labelled_run

SECONDS = 20
LABEL = PairLabel(0.75, 0.75, 0.75, 0.9, 0.9, 10)


def made_pipe(path: Path) -> None:
    os.mkfifo(path)


def made_socket(path: Path) -> None:
    """By a short name: those of sockets are limited."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def made_dangling(path: Path) -> None:
    path.symlink_to(path.with_name("gone"))


def made_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


ODD: dict[str, Callable[[Path], None]] = {
    "pipe": made_pipe,
    "socket": made_socket,
    "dangling": made_dangling,
    "device": made_device,
}


def said_by(*arguments: str | Path) -> str:
    """ "CODE: what a command writes to stderr", in a process of its own; that it hangs, if it does."""

    def command() -> str:
        sys.stderr = io.StringIO()
        return f"{main([str(argument) for argument in arguments])}: {sys.stderr.getvalue()}"

    return in_child(command, SECONDS)


def one_line_with(text: str, code: int, message: str) -> None:
    assert re.fullmatch(rf"{code}: preftree: [^\n]*(?:{message})[^\n]*\n", text), text


@pytest.mark.parametrize("kind", ODD)
def test_as_input(tmp_path: Path, pairs: Path, scorer: FakeScorer, kind: str) -> None:
    """Catches a command that waits for ever for whoever writes to a pipe, or reads a device without end."""
    odd, out = tmp_path / "odd.jsonl", tmp_path / "out"
    ODD[kind](odd)
    way_out = "no such file" if kind == "dangling" else r"not a plain file but .*; use - for standard input"
    one_line_with(said_by("label", odd, "--out", out), 1, way_out)
    problem = "cannot be read: No such file" if kind == "dangling" else "is no regular file: it is a .*; name a"
    one_line_with(said_by("label", pairs, "--out", out, "--config", odd), 2, f"--config .* {problem}")
    one_line_with(said_by("templates", odd), 1, "template .* is neither a file nor one of")
    assert "neither a file nor one of" in in_child(lambda: str(load_principles(str(odd))), SECONDS)
    one_line_with(said_by("report", odd), 1, "no such file" if kind == "dangling" else "cannot read .*it is a")
    assert not out.exists()


@pytest.mark.parametrize("kind", ODD)
def test_as_the_record_of_a_run(tmp_path: Path, kind: str) -> None:
    """Catches a run directory that makes every command hang that is pointed at it."""
    run = labelled_run(tmp_path / "run", "rlaif", [row()], [LABEL])
    (run / RUN).unlink()
    ODD[kind](run / RUN)
    one_line_with(said_by("status", run), 1, "no such file|cannot read .*it is a")
    exported = said_by("export", run, "--to", "soft", "--out", tmp_path / "x.jsonl")
    one_line_with(exported, 1, "no such file|cannot read .*it is a")
    (run / LABELS).unlink()
    ODD[kind](run / LABELS)
    one_line_with(said_by("report", run / LABELS), 1, "no such file|cannot read .*it is a")


def test_in_a_saved_dataset(tmp_path: Path) -> None:
    """Catches the file that lists a dataset's files opened whatever it is."""
    (tmp_path / "d" / "train").mkdir(parents=True)
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    os.mkfifo(tmp_path / "d" / "train" / "dataset_dict.json")
    one_line_with(said_by("plan", tmp_path / "d"), 1, "does not say what lies beside it")


def test_a_closed_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an internal error for `preftree label - <&-`."""
    monkeypatch.setattr(sys, "stdin", None)
    one_line_with(said_by("plan", "-"), 1, "- is standard input, and that is closed; .*name a file")


@pytest.mark.parametrize("kind", [*ODD, "link"])
@pytest.mark.parametrize("command", ["export", "report", "label"])
def test_as_output(tmp_path: Path, pairs: Path, scorer: FakeScorer, command: str, kind: str) -> None:
    """Catches a device or a pipe that is replaced by a file, and a link that is followed, with --overwrite."""
    run = labelled_run(tmp_path / "run", "rlaif", [row()], [LABEL])
    odd, target = tmp_path / "odd.jsonl", tmp_path / "target"
    target.write_text("precious")
    if kind == "link":
        odd.symlink_to(target)
    else:
        ODD[kind](odd)
    before = odd.lstat()
    arguments = {
        "export": ("export", run, "--to", "soft", "--out", odd),
        "report": ("report", run, "--html", odd),
        "label": ("label", pairs, "--out", tmp_path / "out", "--profile", odd),
    }[command]
    one_line_with(
        said_by(*arguments), 1, "exists already|is a named pipe|is a socket|is a device|a link to what is no file"
    )
    if kind in ("link", "dangling"):
        if command != "label":  # the fake judge's trace is written in place
            assert said_by(*arguments, "--overwrite").startswith("0: ")
            assert odd.is_file()
            assert not odd.is_symlink()
        assert target.read_text() == "precious"
        assert not (tmp_path / "gone").exists()
        return
    shown = {"device": "a link to what is no file", "pipe": "a named pipe", "socket": "a socket"}[kind]
    one_line_with(said_by(*arguments, "--overwrite"), 1, f"is {shown}; name a file")
    assert os.path.samestat(odd.lstat(), before)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/stdout"])
def test_devices_stay_devices(device: str) -> None:
    """Catches /dev/null replaced by a file, for every process of the machine, when root writes there."""
    with pytest.raises(OutputError, match=f"^{device} is a (device|link|.*no file).*; name a file"):
        check_out_file(Path(device), overwrite=True)
