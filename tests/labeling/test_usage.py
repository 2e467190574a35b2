"""What the command line says when it is asked for help, used wrongly, or shown on a terminal."""

from __future__ import annotations

import io
import logging
import re

import pytest

from preftree.labeling import cli
from preftree.labeling.commands.examples import EXAMPLES
from preftree.labeling.commands.parser import EPILOG, parse
from preftree.labeling.commands.table import COMMANDS, FAILURE, INTERRUPTED, OK, REJECTED_ROWS, USAGE
from preftree.labeling.options.option import declared, defaults
from preftree.labeling.terminal import coloured, messages_on_stderr
from tests.labeling.commands import one_error
from tests.processes import ROOT


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def help_of(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    with pytest.raises(SystemExit):
        parse(COMMANDS, [*command, "--help"])
    return capsys.readouterr().out


# help


def test_every_command_has_an_example_that_is_right() -> None:
    """Catches a command without one, and one with an option that was renamed or needs another."""
    assert EXAMPLES.keys() == COMMANDS.keys()
    for name, example in EXAMPLES.items():
        parse(COMMANDS, [name, *example.split()])


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)], ids=str)
def test_help_fits_a_terminal(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches lines that a terminal of 80 columns breaks inside words, and a help without example or exit codes."""
    monkeypatch.setenv("COLUMNS", "80")
    text = help_of(capsys, *command)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("\nexample:\n  preftree ") == 1
    assert EPILOG in " ".join(text.split())


# Of other commands, and of every switch.
_ELSEWHERE = {"--no-NAME", "--out", "--shard"}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_speaks_of_its_own_options(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a help text shared by commands that sends readers to an option which one of them lacks, and an option
    that is broken at a hyphen.
    """
    monkeypatch.setenv("COLUMNS", "80")
    text = help_of(capsys, name)
    assert not re.search(r"--[\w-]*-\n", text)
    body = re.sub(r"`[^`]*`", "", text.partition("\nexample:")[0])
    listed = set(re.findall(r"^  (?:-h, )?(--[\w-]+)", body, re.MULTILINE))
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", body)) <= listed | _ELSEWHERE


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("label", "preftree label INPUT ... --out DIR [options]"),
        ("merge", "preftree merge SHARD ... --out DIR [options]"),
        ("show", "preftree show RUN [ID] [options]"),
        ("serve", "preftree serve [options]"),
    ],
)
def test_usage_shows_what_may_be_given(name: str, usage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a usage line that hides an argument, or that several of one may be given."""
    assert help_of(capsys, name).startswith(f"usage: {usage}\n")


# wrong usage


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_wrong_usage_alike(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a command that takes an unknown option, drops an argument, does without what it needs, or begins its
    work before it has looked at all of them.
    """
    right = EXAMPLES[name].split()
    for wrong in ([*right, "--frobnicate"], [*right, "--overwrit=1"], [*right, "--no-such", "value"]):
        assert cli.main([name, *wrong]) == USAGE
        assert re.search(rf"there is no option --.*; see preftree {name} --help$", one_error(capsys))
    options = COMMANDS[name].options
    if declared(options).keys() - defaults(options).keys():
        assert cli.main([name]) == USAGE
        assert "the following arguments are required: " in one_error(capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--labl"], "there is no option '--labl'; use one of -h, --help, --version; see preftree --help"),
        (["--versoin"], "there is no option '--versoin'; did you mean --version?; see preftree --help"),
        (["lable"], "there is no command 'lable'; did you mean label?; see preftree --help"),
    ],
)
def test_before_a_command(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a misspelt option that is reported as a missing command."""
    assert cli.main(arguments) == USAGE
    assert one_error(capsys) == f"preftree: {said}"


def test_exit_codes_are_documented() -> None:
    """Catches a code of the program that the table in docs/runs.md, or --help, gives another meaning."""
    codes = {
        OK: "done",
        FAILURE: "failure",
        USAGE: "wrong usage",
        REJECTED_ROWS: "rejected",
        INTERRUPTED: "interrupted",
    }
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / "docs" / "runs.md").read_text(), re.MULTILINE))
    assert {int(code) for code in rows} == codes.keys()
    for code, meaning in codes.items():
        assert meaning in rows[str(code)]
        assert re.search(rf"\b{code} [^,]*{meaning}", EPILOG)


# colours


@pytest.mark.parametrize(
    ("variables", "is_terminal", "is_coloured"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_where_there_are_colours(
    variables: dict[str, str], is_terminal: bool, is_coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches escape sequences in a log file or a pipe, and a variable that is not honoured."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if is_terminal else io.StringIO()
    assert coloured("text", "red", stream) == ("\x1b[31mtext\x1b[0m" if is_coloured else "text")


def test_errors_are_red_and_warnings_yellow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a warning that looks as the talk around it does."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with messages_on_stderr(quiet=False):
        logging.getLogger("preftree").info("talk")
        logging.getLogger("preftree").warning("mind this")
    assert cli.main(["lable"]) == USAGE
    talk, warning, error = stream.getvalue().splitlines()
    assert (talk, warning) == ("talk", "\x1b[33mpreftree: mind this\x1b[0m")
    assert error.startswith("\x1b[31mpreftree: there is no command")
    assert error.endswith("\x1b[0m")
