"""The command line: exit codes, one line for every failure, a fast start, and terminals that stay themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError, ModelError, PreftreeWarning
from labeling import cli, run, show
from labeling.display import one_line, visible
from tests.labeling.fakes import FakeScorer, open_fake_method, row, write_rows
from tests.models import SMALL_CONFIG, write_model

parquet = pytest.importorskip("pyarrow.parquet")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> FakeScorer:
    """The command line with a fake model behind it."""
    fake = FakeScorer()
    for module in (run, show):
        monkeypatch.setattr(module, "open_scorer", lambda options, weights=True: fake)
        monkeypatch.setattr(module, "open_method", open_fake_method)
    return fake


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "in.jsonl", [row(id="one", gold="a", source="web"), row(id="two")])


def preftree(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labeling.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False, **options)


def one_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The single line that a failure may print."""
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert line.startswith("preftree: ")
    return line


# starting


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["label", "--help"]])
def test_help_and_version_start_fast(arguments: list[str]) -> None:
    """Catches an import at the top of a module that takes seconds before anything is shown."""
    started = time.monotonic()
    done = preftree(*arguments)
    assert time.monotonic() - started < 0.5
    assert done.returncode == 0
    assert "preftree" in done.stdout
    assert done.stderr == ""


def test_nothing_heavy_is_imported_to_start() -> None:
    """Catches the same on a machine too fast to notice, and in the modules that commands import first."""
    code = (
        "import sys, labeling.cli, labeling.run, labeling.show, labeling.report, labeling.data.writer\n"
        "heavy = {'torch', 'triton', 'numpy', 'pyarrow', 'tqdm', 'yaml', 'jinja2', 'tokenizers', 'transformers'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_a_foreign_package_named_kernels_is_one_line(tmp_path: Path) -> None:
    """Catches a traceback before main for those who have the other distribution installed."""
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("")
    places = [str(tmp_path), str(ROOT)]
    code = f"import sys; sys.path[:0] = {places!r}\nfrom labeling.cli import main\nsys.exit(main())"
    command = [sys.executable, "-c", code, "show", "x", "y"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "another distribution" in line


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["lable", "in.jsonl"],
        ["label", "in.jsonl"],
        ["label", "in.jsonl", "--out", "d", "--limit", "0"],
        ["label", "in.jsonl", "--out", "d", "--limit", "-1"],
        ["label", "in.jsonl", "--out", "d", "--limit", "1e3"],
        ["label", "in.jsonl", "--out", "d", "--exemplars", "-1"],
        ["label", "in.jsonl", "--out", "d", "--batch-tokens", "0"],
        ["label", "in.jsonl", "--out", "d", "--dtype", "int8"],
        ["label", "in.jsonl", "--out", "d", "--device", "tpu"],
        ["label", "in.jsonl", "--out", "d", "--device", "cuda:"],
        ["label", "in.jsonl", "--out", "d", "--chat", "--plain"],
        ["label", "in.jsonl", "--out", "d", "--over"],
        ["plan", "in.jsonl", "--out", "d"],
        ["show", "d"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an option that is dropped in silence, and nonsense that is found only when the model is loaded."""
    with pytest.raises(SystemExit) as error:
        cli.main(arguments)
    assert error.value.code == 2
    assert "usage: preftree" in capsys.readouterr().err


# label


def test_label(scorer: FakeScorer, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a summary on stdout, where a pipe expects data, and an option that does not reach the run."""
    arguments = [
        "label",
        str(pairs),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "auto",
        "--no-prefix-cache",
        "--plain",
    ]
    assert cli.main([*arguments, "--template", "my.txt", "--limit", "1", "--batch-tokens", "9"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1 pair labelled" in captured.err
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert settings == {
        "input": str(pairs),
        "out": str(tmp_path / "out"),
        "model": "embedded",
        "template": "my.txt",
        "preamble": "detailed",
        "exemplars": 0,
        "rendering": "plain",
        "limit": 1,
        "mapping": [],
        "device": None,
        "dtype": None,
        "batch_tokens": 9,
        "prefix_cache": False,
        "overwrite": False,
        "force_new": False,
        "retry_rejects": False,
        "shard": None,
        "quiet": False,
        "profile": None,
        "method": "rlaif",
        "scale": None,
        "principles": None,
        "aggregate": None,
        "comparisons": None,
        "principle_sets": [],
        "subset": None,
        "cot": False,
        "max_rationale_tokens": None,
        "samples": None,
        "temperature": None,
        "top_k": None,
        "top_p": None,
        "seed": None,
        "kv_memory": None,
    }


def test_by(scorer: FakeScorer, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a column that is asked for and neither printed nor recorded, and a misspelt one found out at the end."""
    out = str(tmp_path / "out")
    assert cli.main(["label", str(pairs), "--out", out, "--by", "sauce"]) == 1
    assert "no column sauce to go --by; it has source" in one_error(capsys)
    assert not scorer.calls
    assert cli.main(["label", str(pairs), "--out", out, "--by", "source"]) == 0
    assert "by source " in capsys.readouterr().err
    [value] = json.loads((tmp_path / "out" / "run.json").read_text())["quality"]["subsets"]["values"]
    assert (value["value"], value["pairs"]) == ("web", 1)


def test_quiet(scorer: FakeScorer, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches chatter in a cron job."""
    assert cli.main(["label", str(pairs), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_profile_must_have_a_place(
    scorer: FakeScorer, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a trace that cannot be written being found out after hours of labelling."""
    command = ["label", str(pairs), "--out", str(tmp_path / "out"), "--quiet", "--profile"]
    for place, said in ((tmp_path, "is a directory"), (tmp_path / "no" / "x.json", "no writable directory")):
        assert cli.main([*command, str(place)]) == 1
        assert said in one_error(capsys)
        assert not scorer.calls
    trace = tmp_path / "trace.json"
    assert cli.main([*command, str(trace)]) == 0
    assert trace.exists()
    assert cli.main([*command[:3], str(tmp_path / "other"), *command[4:], str(trace)]) == 1
    assert "exists already" in one_error(capsys)


def test_warnings_are_one_line(
    scorer: FakeScorer, pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a source line of ours on the terminal of a user whose GPU is too old."""

    def plan(encoded: Any) -> None:
        warnings.warn("device 'cuda' cannot be used: it is old;\nrunning on the CPU", PreftreeWarning, stacklevel=1)
        raise InputError("stop here")

    monkeypatch.setattr(scorer, "plan", plan)
    assert cli.main(["plan", str(pairs)]) == 1
    said = "preftree: device 'cuda' cannot be used: it is old; running on the CPU\npreftree: stop here\n"
    assert capsys.readouterr().err == said


def test_rejected_rows_are_exit_code_3(scorer: FakeScorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches rejected rows that nobody hears of, and a file of nothing else that ends in an exception."""
    some = write_rows(tmp_path / "some.jsonl", [row(), b"\x1b[2J", row(id="long", prompt="TOO LONG")])
    none = write_rows(tmp_path / "none.jsonl", [b"bad"])
    assert cli.main(["label", str(some), "--out", str(tmp_path / "some")]) == 3
    text = capsys.readouterr().err
    assert "1 pair labelled, 2 rows rejected" in text
    assert "line 2: broken JSON: " in text
    assert "line 3: the prompt has 9,000 tokens, the model's context is 8,192" in text
    assert cli.main(["label", str(none), "--out", str(tmp_path / "none")]) == 3
    assert parquet.read_table(tmp_path / "none" / "labels.parquet").num_rows == 1


def test_failures_are_one_line_and_exit_code_1(
    scorer: FakeScorer, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches tracebacks, names left out, and a file name that writes escape sequences to the terminal."""
    out = str(tmp_path / "out")
    assert cli.main(["label", str(tmp_path / "no\x1b[31m\nsuch.jsonl"), "--out", out]) == 1
    assert one_error(capsys).endswith("no\\x1b[31m such.jsonl")
    assert cli.main(["label", str(tmp_path), "--out", out]) == 1
    assert "is a directory" in one_error(capsys)
    assert cli.main(["label", str(pairs), "--out", str(pairs)]) == 1
    assert "is not a directory" in one_error(capsys)
    (tmp_path / "empty.jsonl").touch()
    assert cli.main(["plan", str(tmp_path / "empty.jsonl")]) == 1
    assert "holds no rows" in one_error(capsys)


def test_existing_labels_need_overwrite(
    scorer: FakeScorer, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a second run that replaces the first."""
    arguments = ["label", str(pairs), "--out", str(tmp_path / "out"), "--quiet"]
    assert cli.main(arguments) == 0
    assert cli.main([*arguments, "--limit", "1"]) == 1
    assert "--overwrite" in one_error(capsys)
    assert parquet.read_table(tmp_path / "out" / "labels.parquet").num_rows == 2
    assert cli.main([*arguments, "--limit", "1", "--overwrite"]) == 0
    assert parquet.read_table(tmp_path / "out" / "labels.parquet").num_rows == 1


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (ModelError("no such model: x"), 1, "preftree: no such model: x"),
        (InputError("two\nlines"), 1, "preftree: two lines"),
        (KeyboardInterrupt(), 130, "preftree: interrupted; nothing was written"),
        (ZeroDivisionError("x"), 1, "preftree: internal error: ZeroDivisionError: x; run with PREFTREE_DEBUG=1 for"),
        (MemoryError(), 1, "preftree: internal error: MemoryError; run with PREFTREE_DEBUG=1 for the traceback"),
    ],
)
def test_whatever_is_raised_is_one_line(
    raised: BaseException,
    code: int,
    message: str,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches a traceback on a user's terminal, and Ctrl-C that leaves half a result."""

    def explode(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(run, "open_method", open_fake_method)
    monkeypatch.setattr(run, "open_scorer", explode)
    assert cli.main(["label", str(pairs), "--out", str(tmp_path / "out"), "--quiet"]) == code
    assert one_error(capsys).startswith(message)
    assert not (tmp_path / "out").exists()


def test_debug_shows_the_traceback(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scorer: FakeScorer
) -> None:
    """Catches a switch that the message names and nothing reads."""
    monkeypatch.setenv("PREFTREE_DEBUG", "1")
    source = write_rows(tmp_path / "boom.jsonl", [row(prompt="BOOM")])
    with pytest.raises(RuntimeError, match="the engine broke"):
        cli.main(["label", str(source), "--out", str(tmp_path / "out")])


SLOW_RUN = """
import signal, sys, time
from labeling import cli, run
from tests.labeling.fakes import FakeScorer, open_fake_method

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored

class Slow(FakeScorer):
    def score(self, encoded):
        if self.calls:
            print("scoring", file=sys.stderr, flush=True)
            signal.sigtimedwait([signal.SIGUSR1], 60)
        return super().score(encoded)

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
run.open_method, run.open_scorer = open_fake_method, lambda options, weights=True: Slow(window_tokens=1)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("times", [1, 2])
def test_interrupt(tmp_path: Path, times: int) -> None:
    """Catches a real Ctrl-C, in the middle of scoring, that leaves a traceback or temporary files, loses a finished
    row or begins another one; and a second one that has to wait.
    """
    pairs = write_rows(tmp_path / "in.jsonl", [row(id=number) for number in range(5)])
    out = tmp_path / "out"
    command = [sys.executable, "-c", SLOW_RUN, "label", str(pairs), "--out", str(out)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        assert next(line for line in said if line == "scoring\n")
        process.send_signal(signal.SIGINT)
        assert next(line for line in said if line == "finishing what was begun; Ctrl-C again stops at once\n")
        process.send_signal(signal.SIGUSR1 if times == 1 else signal.SIGINT)
        kept = "2 rows" if times == 1 else "1 row"
        assert list(said) == [f"preftree: interrupted; {kept} of {out} are kept, the same command goes on\n"]
    assert process.returncode == 130
    assert sorted(path.name for path in out.iterdir()) == ["journal.sqlite", "lock", "run.json"]


# plan


def test_plan(scorer: FakeScorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches totals of the last window alone, a model that runs, and prompts that steer the terminal."""
    rows: list[Any] = [b"bad", *(row(id=i, response_a=f"\x1b]0;owned\x07\u202e{i}\n\tend") for i in range(10, 20))]
    scorer.window_tokens = 100
    assert cli.main(["plan", str(write_rows(tmp_path / "in.jsonl", rows))]) == 0
    captured = capsys.readouterr()
    tokens = 10 * 2 * len("Which?|\x1b]0;owned\x07\u202e10\n\tend|that".encode())
    for part in (
        "rows           11, 1 of them to be rejected",
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
    assert "no row can be asked about" in capsys.readouterr().out


def test_a_reader_that_leaves_is_no_failure(pairs: Path) -> None:
    """Catches `preftree plan ... | head -1` that ends in BrokenPipeError."""
    code = (
        "import sys\nfrom labeling import cli, show\nfrom tests.labeling.fakes import FakeScorer, open_fake_method\n"
        "show.open_method, show.open_scorer = open_fake_method, lambda options, weights=True: FakeScorer()\n"
        "sys.stdin.read()\n"
        "sys.exit(cli.main(['plan', sys.argv[1]]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(pairs)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 0


def test_a_terminal_without_unicode(pairs: Path, tmp_path: Path) -> None:
    """Catches UnicodeEncodeError where the locale is plain ASCII."""
    done = preftree("label", tmp_path / "é.jsonl", "--out", "x", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1
    assert "\\xe9.jsonl" in done.stderr


# templates and direct scores


MINE = """---
description: Mine.
labels: ["1", "2"]
preamble: Choose.
answer: "Better: "
---
{{ prompt }}
One: {{ response_1 }}
Two: {{ response_2 }}
%s
"""


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG))


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
    [line] = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert line == (
        f"warning        {mine}:9: 271 characters of fixed text come behind a variable and are computed anew for every "
        "row; in the preamble they are computed once"
    )


def test_plan_and_show_of_direct_scores(small_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a sample of one prompt that is counted as two, and an answer shown under the other response's prompt."""
    single = row(id="one", response="the only", response_a=None, response_b=None)
    source = write_rows(tmp_path / "in.jsonl", [single, row(id="two")])
    asked = [str(source), "--model", small_model, "--method", "direct", "--scale", "1-5"]
    assert cli.main(["plan", *asked]) == 0
    text = capsys.readouterr().out
    for part in ("rows           2\n", "prompts        3, 1 to 2 a row", '"5" = [', "first prompt: one, the response"):
        assert part in text
    assert '"6" = [' not in text
    out = str(tmp_path / "out")
    assert cli.main(["label", *asked, "--out", out]) == 0
    assert "nats; 1.609 where all 5 are equally probable" in capsys.readouterr().err
    rows = {entry["id"]: entry for entry in parquet.read_table(tmp_path / "out" / "labels.parquet").to_pylist()}
    assert cli.main(["show", out, "two"]) == 0
    text = capsys.readouterr().out
    places = [text.index(part) for part in ("this", "answer, response A: score ", "that", "answer, response B: score ")]
    assert places == sorted(places)
    assert f"answer, response B: score {rows['two']['score_b']:.6f}" in text
    assert cli.main(["show", out, "one"]) == 0
    assert f"answer, the response: score {rows['one']['score']:.6f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "direct", "--scale", "5-1"], "preftree: scale 5-1 runs downwards; write 1-5"),
        (["--method", "direct", "--template", "general"], "preftree: template general compares two responses; method"),
        (["--method", "direct", "--exemplars", "9"], "preftree: direct:13: it has 2 exemplars, 9 were asked for"),
        (["--template", "direct"], "preftree: template direct shows one response; method rlaif compares two"),
    ],
)
def test_what_cannot_be_asked_is_found_before_the_model_is_loaded(
    options: list[str], said: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches minutes of loading before a typing error is found."""
    command = ["label", str(pairs), "--model", str(tmp_path / "no such model"), "--out", str(tmp_path / "out")]
    assert cli.main([*command, *options]) == 1
    assert one_error(capsys).startswith(said)
    assert not (tmp_path / "out").exists()


def test_templates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a mistake in a file of one's own that ends in a traceback, and a table on stderr."""
    assert cli.main(["templates"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("name ")
    assert "\nsummarization " in captured.out
    assert captured.err == ""
    assert cli.main(["templates", "general"]) == 0
    assert capsys.readouterr().out.endswith("### Which response is better, 1 or 2?\n")
    mine = tmp_path / "mine.txt"
    mine.write_text(MINE.replace("labels: [", "labels: ") % "")
    assert cli.main(["templates", str(mine)]) == 1
    assert one_error(capsys).startswith(f"preftree: {mine}:3: front matter is not YAML")
    assert cli.main(["templates", "nosuch"]) == 1
    assert "is neither a file nor one of: " in one_error(capsys)
    with pytest.raises(SystemExit) as error:
        cli.main(["templates", "general", "direct"])
    assert error.value.code == 2


# principles


def test_sets_of_principles_reach_the_run(scorer: FakeScorer, pairs: Path, tmp_path: Path) -> None:
    """Catches a set or a common principle that is dropped on the way, and sets poured into one."""
    command = ["score", str(pairs), "--out", str(tmp_path / "out"), "--quiet", "--add-principle", "Be kind."]
    assert cli.main([*command, "--under", "concise", "not helpful", "--under", "It rhymes.", "--guard"]) == 0
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    common = ["Be kind.", "no-self-praise", "answer-not-advice", "no-needless-examples"]
    assert settings["principle_sets"] == [["concise", "not helpful", *common], ["It rhymes.", *common]]
    assert settings["method"] == "principled"


def test_mistakes_in_principles_are_one_line(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback of the YAML reader, and escape sequences of a file on the terminal."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("- name: a\n  positive: [\n")
    label, score = (["label", str(pairs), "--method", "salmon"], ["score", str(pairs)])
    for command in (label, score):
        assert cli.main([*command, "--out", str(tmp_path / "out"), "--principles", str(mine)]) == 1
        assert "mine.yaml:3: is not YAML" in one_error(capsys)
    assert cli.main([*score, "--out", str(tmp_path / "out"), "--under", "Be \x1b[31m\nkind."]) == 1
    assert "holds the control character U+001B" in one_error(capsys)
    assert cli.main([*score, "--out", str(tmp_path / "out")]) == 1
    assert "name principles to score under with --under" in one_error(capsys)


# show


@pytest.fixture
def labelled(scorer: FakeScorer, pairs: Path, tmp_path: Path) -> Path:
    assert cli.main(["label", str(pairs), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    return tmp_path / "out"


def test_show(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an order shown with the other's answer, and a row or a column left out."""
    [one, _] = parquet.read_table(labelled / "labels.parquet").to_pylist()
    assert cli.main(["show", str(labelled), "one"]) == 0
    text = capsys.readouterr().out
    for name, value in one.items():
        if value is not None:
            assert f"{name} " in text
            assert str(value) in text
    asked_first, asked_second = text.index("<|user|>Which?|this|that"), text.index("<|user|>Which?|that|this")
    answer_first = text.index(f"answer, A first: A is better with p {one['p_a_first']:.6f}, label mass 0.900000")
    answer_second = text.index(f"answer, B first: A is better with p {one['p_a_second']:.6f}, label mass 0.900000")
    assert asked_first < answer_first < asked_second < answer_second


def test_show_uses_the_recorded_template(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a prompt shown as today's template would ask it."""
    sources = []

    def remember(options: Any, recorded: Any = None) -> Any:
        sources.append(recorded["template"]["source"])
        return open_fake_method(options, recorded)

    monkeypatch.setattr(show, "open_method", remember)
    assert cli.main(["show", str(labelled), "one"]) == 0
    assert sources == ["fake template, {{ prompt }}"]


def test_show_of_a_rejected_row(scorer: FakeScorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a crash on nulls, and a duplicate's rejection that hides the label of the first row."""
    source = write_rows(tmp_path / "in.jsonl", [row(id="r", prompt=""), row(id="d"), row(id="d")])
    assert cli.main(["label", str(source), "--out", str(tmp_path / "out"), "--quiet"]) == 3
    assert cli.main(["show", str(tmp_path / "out"), "r"]) == 0
    text = capsys.readouterr().out
    assert "blank text: prompt" in text
    assert "answer" not in text
    assert cli.main(["show", str(tmp_path / "out"), "d"]) == 0
    text = capsys.readouterr().out
    assert "duplicate id" in text
    assert "answer, B first" in text


def test_show_what_is_not_there(labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches tracebacks for a wrong id, a wrong directory and broken files."""
    assert cli.main(["show", str(labelled), "three"]) == 1
    assert "no row with id three" in one_error(capsys)
    assert cli.main(["show", str(tmp_path), "one"]) == 1
    assert "no such file" in one_error(capsys)
    (labelled / "labels.parquet").write_bytes(b"PAR1 not")
    assert cli.main(["show", str(labelled), "one"]) == 1
    assert "cannot read" in one_error(capsys)
    (labelled / "labels.parquet").unlink()
    assert cli.main(["show", str(labelled), "one"]) == 1
    assert "no such file" in one_error(capsys)
    for text in ("{", "[]", "{}"):
        (labelled / "run.json").write_text(text)
        assert cli.main(["show", str(labelled), "one"]) == 1
        assert "is no record of a run" in one_error(capsys)


def test_show_when_the_input_is_elsewhere(
    labelled: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches prompts made from another file's texts, and labels withheld because texts are gone."""
    moved = pairs.rename(tmp_path / "moved.jsonl")
    assert cli.main(["show", str(labelled), "one"]) == 0
    text = capsys.readouterr().out
    assert "verdict" in text
    assert "the prompts cannot be shown: no such file" in text
    assert cli.main(["show", str(labelled), "one", "--input", str(moved)]) == 0
    assert "answer, B first" in capsys.readouterr().out
    write_rows(moved, [row(id="one", response_a="edited"), row(id="two")])
    assert cli.main(["show", str(labelled), "one", "--input", str(moved)]) == 0
    text = capsys.readouterr().out
    assert "is not the file that was labelled" in text
    assert "edited" not in text


def test_show_when_the_model_has_changed(
    labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches prompts rendered by another tokenizer or chat template passed off as those that were asked."""

    class Other(FakeScorer):
        def encode(self, request: Any) -> Any:
            encoded = super().encode(request)
            encoded.ids.append(0)
            return encoded

    monkeypatch.setattr(show, "open_scorer", lambda options, weights=True: Other())
    assert cli.main(["show", str(labelled), "one"]) == 0
    assert "the prompts cannot be shown: model embedded makes" in capsys.readouterr().out


# terminals


def test_escapes() -> None:
    """Catches a control sequence, a C1 code or a bidirectional override that reaches the terminal."""
    assert visible("a\x1b[31m\x00\r\x7f\x9b\u202e\u2066\u2028b") == (
        "a\\x1b[31m\\x00\\x0d\\x7f\\x9b\\u202e\\u2066\\u2028b"
    )
    assert (
        visible("tab\tline\nü 字 \U0001f468\u200d\U0001f469 {{x}}")
        == "tab\tline\nü 字 \U0001f468\u200d\U0001f469 {{x}}"
    )
    assert visible("\ud800") == "\\ud800"
    assert one_line("two\n  lines\x1b") == "two lines\\x1b"
