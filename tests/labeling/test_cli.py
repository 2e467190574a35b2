"""The command line: exit codes, one line for every failure, a fast start, and terminals that stay themselves."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError, ModelError
from preftree.labeling import cli
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.options.option import declared
from preftree.labeling.principles.sets import load_principles
from preftree.labeling.runs import run
from preftree.labeling.terminal import one_line, visible
from tests.labeling.commands import one_error, preftree
from tests.labeling.fakes import FakeScorer, open_fake_method, row, write_rows
from tests.processes import answered, printed, start_python
from tests.stopwatch import processor_seconds, within

parquet = pytest.importorskip("pyarrow.parquet")


# starting


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["label", "--help"]])
def test_help_and_version_start_fast(arguments: list[str]) -> None:
    """Catches an import at the top of a module that takes seconds before anything is shown: a start takes some six
    times the processor time of Python's own.
    """
    before = processor_seconds()
    printed("-c", "pass")
    alone = processor_seconds() - before
    with within(20 * max(alone, 0.01)):
        done = preftree(*arguments)
    assert done.returncode == 0
    assert "preftree" in done.stdout
    assert done.stderr == ""


def test_nothing_heavy_is_imported_to_start() -> None:
    """Catches the same on a machine too fast to notice, and in the modules that commands import first."""
    code = (
        "import json, sys\n"
        "from preftree.labeling import cli\n"
        "from preftree.labeling.report import text\n"
        "from preftree.labeling.runs import run, show\n"
        "from preftree.labeling.data import labels_file\n"
        "heavy = {'torch', 'triton', 'numpy', 'pyarrow', 'tqdm', 'yaml', 'jinja2', 'tokenizers', 'transformers'}\n"
        "print(json.dumps([sorted(heavy & sys.modules.keys()), len(sys.modules)]))\n"
    )
    heavy, modules = answered("-c", code)
    assert heavy == []
    assert modules < 400


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
        ["label", "in.jsonl", "--out", "d", "--dtype", "int4"],
        ["label", "in.jsonl", "--out", "d", "--device", "tpu"],
        ["label", "in.jsonl", "--out", "d", "--device", "cuda:"],
        ["label", "in.jsonl", "--out", "d", "--chat", "--plain"],
        ["label", "in.jsonl", "--out", "d", "--over"],
        ["plan", "in.jsonl", "--out", "d"],
        ["show"],
        ["show", "d", "-n", "0"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an option that is dropped in silence, nonsense that is found only when the model is loaded, and pages of
    options in front of what is wrong."""
    assert cli.main(arguments) == 2
    assert one_error(capsys).endswith("--help")


# label


def test_label(scorer: FakeScorer, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a summary that is mixed with progress on stderr, and an option that does not reach the run."""
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
    assert "1 pair labelled" in captured.out
    assert "labelled" not in captured.err
    options = json.loads((tmp_path / "out" / "run.json").read_text())["options"]
    assert options == {
        "offline": False,
        "probes": [],
        "rubric": None,
        "rubric_column": None,
        "input": [str(pairs)],
        "out": str(tmp_path / "out"),
        "model": "embedded",
        "template": "my.txt",
        "preamble": "detailed",
        "exemplars": 0,
        "rendering": "plain",
        "limit": 1,
        "sample": None,
        "mapping": [],
        "device": "auto",
        "dtype": "auto",
        "batch_tokens": 9,
        "prefix_cache": False,
        "overwrite": False,
        "force_new": False,
        "retry_rejects": False,
        "allow_low_mass": False,
        "shard": None,
        "quiet": False,
        "profile": None,
        "method": "rlaif",
        "scale": None,
        "calibration": None,
        "principles": None,
        "aggregate": "strongest",
        "comparisons": None,
        "under": [],
        "add_principle": [],
        "guard": False,
        "draw": None,
        "draw_seed": 0,
        "boost": [],
        "tag_column": "tag",
        "fence": False,
        "subset": None,
        "cot": False,
        "max_rationale_tokens": 512,
        "samples": 1,
        "temperature": 0.0,
        "top_k": None,
        "top_p": None,
        "seed": 0,
        "kv_memory": None,
        "memory_fraction": None,
        "devices": None,
        "stream_layers": "auto",
        "ray": None,
        "workers": None,
        "gpus_per_worker": None,
        "cpus_per_worker": 1,
        "same_hardware": False,
    }


def test_by(scorer: FakeScorer, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a column that is asked for and neither printed nor recorded, and a misspelt one found out at the end."""
    out = str(tmp_path / "out")
    assert cli.main(["label", str(pairs), "--out", out, "--by", "sauce"]) == 2
    assert "no column sauce for --by; it has source" in one_error(capsys)
    assert not scorer.calls
    assert cli.main(["label", str(pairs), "--out", out, "--by", "source"]) == 0
    assert "by source " in capsys.readouterr().out
    values = json.loads((tmp_path / "out" / "run.json").read_text())["quality"]["subsets"]["values"]
    [value] = [one for one in values if one["pairs"]]
    assert (value["value"], value["pairs"]) == ("web", 1)


def test_by_a_column_that_labels_have_too(
    scorer: FakeScorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches figures by the status of labels where the input's was asked for, and gold that must be there."""
    source = write_rows(tmp_path / "in.jsonl", [row(id=k, status=f"s{k % 2}") for k in range(5)])
    assert cli.main(["label", str(source), "--out", str(tmp_path / "out"), "--by", "status"]) == 0
    assert "by input_status" in capsys.readouterr().out
    subsets = json.loads((tmp_path / "out" / "run.json").read_text())["quality"]["subsets"]
    assert {one["value"]: one["rows"] for one in subsets["values"]} == {"s0": 3, "s1": 2}


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
        logging.getLogger("preftree").warning("device 'cuda' cannot be used: it is old;\nrunning on the CPU")
        raise InputError("stop here")

    monkeypatch.setattr(scorer, "plan", plan)
    assert cli.main(["plan", str(pairs)]) == 1
    said = "preftree: device 'cuda' cannot be used: it is old; running on the CPU\npreftree: stop here\n"
    assert capsys.readouterr().err == said


def test_rejected_rows_are_exit_code_3(scorer: FakeScorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches rejected rows that nobody hears of."""
    some = write_rows(tmp_path / "some.jsonl", [row(), b"\x1b[2J", row(id="long", prompt="TOO LONG")])
    assert cli.main(["label", str(some), "--out", str(tmp_path / "some")]) == 3
    text = " ".join(capsys.readouterr().out.split())
    assert "1 pair labelled, 2 rows rejected" in text
    assert "line 2: broken JSON: " in text
    assert "line 3: the prompt has 9,000 tokens, the model's context is 8,192" in text


def test_failures_are_one_line_and_exit_code_1(
    scorer: FakeScorer, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches tracebacks, names left out, and a file name that writes escape sequences to the terminal."""
    out = str(tmp_path / "out")
    assert cli.main(["label", str(tmp_path / "no\x1b[31m\nsuch.jsonl"), "--out", out]) == 1
    assert one_error(capsys).endswith("no\\x1b[31m such.jsonl")
    (tmp_path / "empty").mkdir()
    assert cli.main(["label", str(tmp_path / "empty"), "--out", out]) == 1
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
    monkeypatch.setattr(run, "load_judge", explode)
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
from preftree.labeling import cli
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.options.option import declared
from preftree.labeling.principles.sets import load_principles
from preftree.labeling.runs import run
from tests.labeling.fakes import FakeScorer, open_fake_method

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored

class Slow(FakeScorer):
    def score(self, encoded):
        if self.calls:
            print("scoring", file=sys.stderr, flush=True)
            # In pieces: a signal that comes between Python's look for one and the call would wait for the call's end.
            any(signal.sigtimedwait([signal.SIGUSR1], 0.1) for _ in range(600))
        return super().score(encoded)

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
run.open_method, run.load_judge = open_fake_method, lambda options, weights=True: Slow(window_tokens=1)
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("times", [1, 2])
def test_interrupt(tmp_path: Path, times: int) -> None:
    """Catches a real Ctrl-C, in the middle of scoring, that leaves a traceback or temporary files, loses a finished
    row or begins another one; and a second one that has to wait.
    """
    pairs = write_rows(tmp_path / "in.jsonl", [row(id=number) for number in range(5)])
    out = tmp_path / "out"
    with start_python("-c", SLOW_RUN, "label", pairs, "--out", out, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = iter(process.stderr.readline, "")
        assert next(line for line in said if line == "scoring\n")
        process.send_signal(signal.SIGINT)
        assert next(line for line in said if line == "finishing the current batch; press Ctrl-C again to stop now\n")
        process.send_signal(signal.SIGUSR1 if times == 1 else signal.SIGINT)
        kept = "2 rows" if times == 1 else "1 row"
        assert list(said) == [
            f"preftree: interrupted; {kept} of {out} are kept; run the same command again to resume\n"
        ]
    assert process.returncode == 130
    assert sorted(path.name for path in out.iterdir()) == ["answers", "lock", "run.json"]


WRITING = """
import io, logging, os, signal, sys
from preftree.labeling.runs.stopping import Stopping

class Raw(io.RawIOBase):
    asked = False
    def writable(self):
        return True
    def write(self, data):
        if not Raw.asked:
            Raw.asked = True
            os.kill(os.getpid(), signal.SIGINT)
        return os.write(1, data)

signal.signal(signal.SIGINT, signal.default_int_handler)
stream = io.TextIOWrapper(io.BufferedWriter(Raw()))
logging.basicConfig(stream=stream, level=logging.INFO, format="%(message)s")
with Stopping() as stopping:
    print("progress", file=stream, flush=True)
    assert stopping.asked
"""


def test_interrupt_amid_a_write() -> None:
    """Catches an internal error where Ctrl-C comes while progress is being written: streams cannot be entered twice."""
    assert printed("-c", WRITING) == "progress\nfinishing the current batch; press Ctrl-C again to stop now\n"


# principles


def test_sets_of_principles_reach_the_run(scorer: FakeScorer, pairs: Path, tmp_path: Path) -> None:
    """Catches a set or a common principle that is dropped on the way, and sets poured into one."""
    command = ["score", str(pairs), "--out", str(tmp_path / "out"), "--quiet", "--add-principle", "Be kind."]
    assert cli.main([*command, "--under", "concise", "not helpful", "--under", "It rhymes.", "--guard"]) == 0
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    options = JudgeOptions(**{name: record["options"][name] for name in declared(JudgeOptions)})
    assert (options.method, options.under) == ("principled", (("concise", "not helpful"), ("It rhymes.",)))
    statements = [made["statements"] for made in open_method(options).record()["sets"]]
    guards = [principle.positive for principle in load_principles("reinforcement")]
    assert [made[-4:] for made in statements] == [["Be kind.", *guards]] * 2
    assert [len(made) for made in statements] == [6, 5]


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
