"""What is around a command: streams that are closed or full, locales without UTF-8, SIGTERM, paths of nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet

from preftree.engine.errors import UsageError
from preftree.labeling import cli
from preftree.labeling.options.runs import LabelOptions
from tests.labeling.commands import one_error
from tests.labeling.fakes import FakeScorer, row, write_rows
from tests.processes import ROOT, environment

# Labels with a fake model, and whatever the command line says.
FAKE = """
import sys
from preftree.labeling import cli
from preftree.labeling.runs import run
from tests.labeling.fakes import FakeScorer, open_fake_method

run.open_method, run.load_judge = open_fake_method, lambda options, weights=True: FakeScorer()
sys.exit(cli.main())
"""
ONE_BY_ONE = """
import os, signal, sys
from preftree.labeling import cli
from preftree.labeling.runs import run
from tests.labeling.fakes import FakeScorer, open_fake_method

class Slow(FakeScorer):
    def score(self, encoded):
        if self.calls:
            for _ in range(TIMES):
                os.kill(os.getpid(), signal.SIGTERM)
        return super().score(encoded)

run.open_method, run.load_judge = open_fake_method, lambda options, weights=True: Slow(window_tokens=1)
sys.exit(cli.main())
"""


def in_shell(redirection: str, *arguments: str | Path, program: str = FAKE, **env: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command whose streams the shell has redirected."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$@" {redirection}', "sh", *command],
        capture_output=True,
        cwd=ROOT,
        timeout=60,
        check=False,
        env=environment(env),
    )
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


@pytest.mark.parametrize(
    "redirection", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full", "2>&1 | :"]
)
def test_labels_that_are_written_are_no_failure(tmp_path: Path, pairs: Path, redirection: str) -> None:
    """Catches a run that fails, or is not begun, because nobody can be told of it; and messages in its files."""
    out = tmp_path / "out"
    if "|" in redirection:
        redirection = f"2>&1; echo $? > '{tmp_path}/code'; }} | :"
        code, said, errors = in_shell("", "label", pairs, "--out", out, program=FAKE)
        command = f'{{ "$@" {redirection}'
        subprocess.run(
            ["/bin/sh", "-c", command, "sh", sys.executable, "-c", FAKE, "label", str(pairs), "--out", f"{out}-2"],
            cwd=ROOT, env=environment(), timeout=60, check=True,
        )  # fmt: skip
        assert (tmp_path / "code").read_text() == "0\n"
        out = Path(f"{out}-2")
    else:
        code, said, errors = in_shell(redirection, "label", pairs, "--out", out)
        assert ("" if redirection.startswith("2>") else said, errors if "2>" in redirection else "") == ("", "")
    assert code == (1 if redirection.startswith(">/dev/full") else 0), "a summary that cannot be written is one"
    assert parquet.read_table(out / "labels.parquet").num_rows == 2
    assert json.loads((out / "run.json").read_text())["state"] == "complete"


def test_what_is_asked_for_and_cannot_be_printed_is_a_failure() -> None:
    """Catches a report that is lost in silence, an internal error, and noise when Python exits."""
    code, said, errors = in_shell(">/dev/full", "templates")
    assert (code, said) == (1, "")
    assert errors == "preftree: cannot write to standard output: No space left on device\n"
    assert in_shell(">&-", "templates") == (0, "", "")
    assert in_shell("2>&-", "templates")[0] == 0


LOCALES = [
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    pytest.param({"LC_ALL": "POSIX", "PYTHONUTF8": "0"}, marks=pytest.mark.soak),
    pytest.param({"LC_ALL": "C"}, marks=pytest.mark.soak),
]


@pytest.mark.parametrize("locale", LOCALES, ids=str)
def test_locales_without_utf8(tmp_path: Path, locale: dict[str, str]) -> None:
    """Catches names and texts that a locale cannot say: in paths, columns, records and on the terminal."""
    is_ascii = "PYTHONUTF8" in locale  # else Python itself has the UTF-8 mode there
    here = tmp_path / "Prüfung 字"
    here.mkdir()
    source = write_rows(here / "Zeilen é.jsonl", [row(id="ü 字", Größe="ß"), row(id="b", prompt="日本 \U0001f600")])
    out = here / "Ausgabe ñ"
    code, said, errors = in_shell("", "label", source, "--out", out, "--by", "Größe", **locale)
    assert code == 0, errors
    table = parquet.read_table(out / "labels.parquet")
    assert (table["id"].to_pylist(), table["Größe"].to_pylist()) == (["ü 字", "b"], ["ß", None])
    assert json.loads((out / "run.json").read_bytes())["input"]["path"] == str(source)
    for command in (("report", out), ("status", out), ("report", out, "--html", here / "Seite ø.html")):
        code, said, errors = in_shell("", *command, **locale)
        assert (code, errors) == (0, ""), command
        assert said.isascii() or not is_ascii, command
    page = (here / "Seite ø.html").read_text(encoding="utf-8")
    assert "日本 \U0001f600" in page
    exported = here / "Paare ł.jsonl"
    code, said, errors = in_shell("", "export", out, "--to", "soft", "--out", exported, **locale)
    assert code == 0, errors
    assert "日本" in exported.read_text(encoding="utf-8")
    code, said, errors = in_shell("", "label", here / "weg é.jsonl", "--out", f"{out}2", **locale)
    assert (code, errors.isascii() or not is_ascii, errors.count("\n")) == (1, True, 1)


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    """Catches a record or a page that cannot be written because of a name from an older machine."""
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl"))
    write_rows(source, [row(id="one")])
    more = write_rows(Path(f"{source}.2.jsonl"), [b"bad", row(id="two")])
    assert in_shell("", "label", source, more, "--out", tmp_path / "out")[0] == 3
    assert Path(json.loads((tmp_path / "out" / "run.json").read_bytes())["input"]["path"][0]) == source
    assert "caf\\udce9" in parquet.read_table(tmp_path / "out" / "labels.parquet")["reason"].to_pylist()[1]
    assert in_shell("", "report", tmp_path / "out", "--html", tmp_path / "x.html")[0] == 0


@pytest.mark.parametrize(("times", "kept"), [(1, "2 rows"), (2, "1 row")])
def test_sigterm_drains(tmp_path: Path, times: int, kept: str) -> None:
    """Catches a scheduler's SIGTERM that loses finished rows and leaves no word, and a second one that has to wait."""
    source = write_rows(tmp_path / "in.jsonl", [row(id=number) for number in range(5)])
    out = tmp_path / "out"
    program = ONE_BY_ONE.replace("TIMES", str(times))
    code, _, errors = in_shell("", "label", source, "--out", out, program=program)
    assert code == 130
    assert errors.splitlines()[-2:] == [
        "finishing the current batch; send SIGTERM again to stop now",
        f"preftree: interrupted; {kept} of {out} are kept; run the same command again to resume",
    ]
    assert in_shell("", "label", source, "--out", out)[0] == 0


def test_sigterm_leaves_nothing_of_a_run_that_did_not_begin(tmp_path: Path, pairs: Path) -> None:
    """Catches a directory with nothing but a lock, left by whoever is terminated while a model is loaded."""
    kill = "lambda options, weights=True: __import__('os').kill(__import__('os').getpid(), 15)"
    program = FAKE.replace("lambda options, weights=True: FakeScorer()", kill)
    code, _, errors = in_shell("", "label", pairs, "--out", tmp_path / "out", program=program)
    assert (code, errors.splitlines()[-1]) == (130, "preftree: interrupted; nothing was written")
    assert not (tmp_path / "out").exists()


def test_the_process_is_as_it_was(pairs: Path, tmp_path: Path, scorer: FakeScorer) -> None:
    """Catches a handler or a stream of a command that is left to whoever called `main`."""
    before = (sys.stdout, sys.stderr, signal.getsignal(signal.SIGTERM))
    assert cli.main(["label", str(pairs), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert (sys.stdout, sys.stderr, signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize(
    "command",
    [
        ("label", "in.jsonl", "--out", ""),
        ("score", "in.jsonl", "--under", "concise", "--out", ""),
        ("label", "in.jsonl", "--out", "x", "--profile", ""),
        ("label", "in.jsonl", "--out", "x", "--config", ""),
        ("export", "run", "--to", "soft", "--out", ""),
        ("export", "", "--to", "soft", "--out", "x.jsonl"),
        ("merge", "run", "--out", ""),
        ("merge", "", "--out", "x"),
        ("aggregate", "run", "--out", ""),
        ("instructions", "run", "--out", ""),
        ("report", "run", "--html", ""),
        ("report", ""),
        ("status", ""),
        ("show", "", "one"),
        ("show", "run", "one", "--input", ""),
    ],
)
def test_a_path_of_nothing(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an empty variable of a script taken for the current directory."""
    assert cli.main(command) == 2
    assert "must be the path of a file or a directory, not ''" in one_error(capsys)


def test_a_path_that_no_system_has() -> None:
    """Catches "embedded null byte" as an internal error, from a config file or from Python."""
    with pytest.raises(UsageError, match=r"--out must be the path .* not 'a\\x00b'"):
        LabelOptions(input="x.jsonl", out="a\0b")
