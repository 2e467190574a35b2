"""Options, declared once: flags and config files that follow from them, what goes before what, and what is refused."""

from __future__ import annotations

import ast
import json
import os
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import preftree as pt
from preftree.engine.errors import InputError
from preftree.labeling import cli
from preftree.labeling.commands.parser import Command, build_parser, parse
from preftree.labeling.commands.table import COMMANDS, USAGE
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.options.option import Options, declared, defaults, spelled
from preftree.labeling.options.runs import LabelOptions, PlanOptions
from preftree.labeling.result import Result
from preftree.labeling.runs import run
from preftree.labeling.values import size
from tests.labeling.commands import one_error, preftree
from tests.labeling.fake_engine import FakeEngine, fake_scorer
from tests.labeling.fakes import row, write_rows
from tests.models import SMALL_CONFIG, write_model
from tests.processes import ROOT

parquet = pytest.importorskip("pyarrow.parquet")

Config = Callable[..., Path]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    def write(text: str, name: str = "run.yaml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return write


def label(*arguments: str | Path) -> LabelOptions:
    options = parse(COMMANDS, ["label", *map(str, arguments)])[1]
    assert isinstance(options, LabelOptions)
    return options


@pytest.fixture
def labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[dict[str, Any], bytes]]:
    """Record and labels of a run with a fake engine."""
    model = str(write_model(tmp_path / "model", SMALL_CONFIG))
    monkeypatch.setattr(
        run, "load_judge", lambda options, weights=True: fake_scorer(model, FakeEngine(), options.batch_tokens)
    )

    def made(*arguments: str | Path, command: str = "label") -> tuple[dict[str, Any], bytes]:
        assert cli.main([command, *map(str, arguments), "--quiet"]) == 0
        out = Path(arguments[arguments.index("--out") + 1])
        return json.loads((out / "run.json").read_text()), (out / "labels.parquet").read_bytes()

    return made


# one declaration


def test_only_the_generator_declares_flags() -> None:
    """Catches an option beside the classes. --version and --help are the program's own."""
    for path in sorted((ROOT / "labeling").rglob("*.py")):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        flags = [
            word.value
            for call in calls
            for word in call.args
            if getattr(call.func, "attr", "") == "add_argument" and isinstance(word, ast.Constant)
        ]
        assert flags == (["--version"] if path.name == "parser.py" else []), path


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_option_and_no_other(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = COMMANDS[name]
    assert set(command.hides) <= set(declared(command.options))
    with pytest.raises(SystemExit):
        parse(COMMANDS, [name, "--help"])
    text = capsys.readouterr().out
    shown = set(re.findall(r"^  (?:-h, )?(--?[a-z-]+)", text, re.MULTILINE))
    expected = {"--help", "--json", *(["--config"] if command.config else [])}
    for option, value in declared(command.options).items():
        if option in command.hides or value.flag == "":
            continue
        turned_off = defaults(command.options).get(option) is True
        flag = f"--no-{spelled(option, value)[2:]}" if turned_off else spelled(option, value)
        expected |= {f"--{switch}" for switch in value.switches} or {flag}
    assert shown == expected


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_is_fast(arguments: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = preftree(*arguments, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Of the processor: on a busy machine it takes longer than that.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_defaults_are_of_their_kind(name: str) -> None:
    """Catches a default that the same option would refuse, or would take for another value."""
    options = COMMANDS[name].options
    for option, default in defaults(options).items():
        if default is not None:
            assert declared(options)[option].kind(default) == default


# config files


def test_a_config_says_what_flags_say(config: Config) -> None:
    """Catches a kind of option that a file cannot give: texts, numbers, lists, switches, flags of another name."""
    path = config(
        "input: in.jsonl\nout: dir\nlimit: 10\nmap: [prompt=q, response_a=left]\nby: source\n"
        "rendering: plain\nbatch-tokens: 4096\nprefix_cache: false\ncot: true\ntemperature: 0.5\ntop_k: null\n"
        "kv_memory: 4GiB\ndtype: bf16\ntemplate: 'yes'\n"
    )
    flags = "in.jsonl --out dir --limit 10 --map prompt=q --map response_a=left --by source --plain --batch-tokens 4096"
    more = "--no-prefix-cache --cot --temperature 0.5 --kv-memory 4294967296 --dtype bf16 --template yes"
    assert label("--config", path) == label(*flags.split(), *more.split())


def test_a_config_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """Catches a command that waits for ever for a pipe, or reads a device until memory is full."""
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero", str(tmp_path)):
        with pytest.raises(InputError, match=f"--config {re.escape(path)} is no regular file"):
            label("--config", path)


def test_the_command_line_goes_before_the_config_and_that_before_defaults(config: Config) -> None:
    path = config("input: in.jsonl\nout: dir\nlimit: 10\ncot: true\nprefix_cache: false\nmap: [prompt=q]\n")
    options = label("other.jsonl", "--config", path, "--limit", "3", "--no-cot", "--prefix-cache", "--map", "id=key")
    assert (options.input, options.out, options.limit, options.preamble) == (("other.jsonl",), "dir", 3, "detailed")
    assert (options.cot, options.prefix_cache, options.mapping) == (False, True, ("id=key",))


def test_several_inputs() -> None:
    """Catches a second file that is dropped, and one name that is taken for a list of letters."""
    assert label("a.jsonl", "b.jsonl", "--out", "x").input == ("a.jsonl", "b.jsonl")
    assert label("--out", "x", "a.jsonl").input == JudgeOptions(input=Path("a.jsonl")).input == ("a.jsonl",)  # type: ignore[arg-type]


def test_plan_reads_the_config_of_label(config: Config) -> None:
    path = config("input: in.jsonl\nout: dir\nexemplars: 1\n")
    assert parse(COMMANDS, ["plan", "--config", str(path)])[1] == PlanOptions(input="in.jsonl", exemplars=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("out: d\ntempature: 1\n", "run.yaml:2: there is no option 'tempature'; did you mean temperature?"),
        ("out: d\n\nlimit: -1\n", "run.yaml:3: limit must be a whole number, at least 1, not '-1'"),
        ("method: salmon\nmethod: rlaif\n", "run.yaml:2: --config has 'method' twice"),
        ("map: [a=b]\nmapping: [a=b]\n", "run.yaml:2: mapping is there twice"),
        ("map: a=b\n", "run.yaml:1: map must be a list, not 'a=b'"),
        ("map: {a: b}\n", "run.yaml:1: map must be a list"),
        ("out: [d]\n", "run.yaml:1: out must be a text"),
        ("under: [concise]\n", "run.yaml:1: under must be a list, not 'concise'"),
        ("under: &a [*a]\n", "run.yaml:1: under must be a text"),
        ("cot: maybe\n", "run.yaml:1: cot must be true or false, not 'maybe'"),
        ("- out\n", "run.yaml:1: --config must be `key: value` lines"),
        ("out: [\n", "run.yaml:2: --config is not YAML"),
        ("", "run.yaml:1: --config is empty"),
        ("#" * 1_000_001, "run.yaml is larger than 1,000,000 bytes"),
        ("config: other.yaml\n", "run.yaml:1: there is no option 'config'"),
    ],
)
def test_mistakes_in_a_config(text: str, said: str, config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["label", "in.jsonl", "--config", str(config(text))]) == USAGE
    assert said in one_error(capsys)


def test_a_config_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["label", "--config", str(tmp_path / "no.yaml")]) == USAGE
    assert "no.yaml cannot be read" in one_error(capsys)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("label", ["--method", "salmon", "--principles", "reinforcement", "--aggregate", "won", "--limit", "2"]),
        ("label", ["--cot", "--samples", "2", "--temperature", "0.7", "--max-rationale-tokens", "8", "--seed", "3"]),
        ("label", ["--method", "direct", "--scale", "1-5", "--map", "prompt=other"]),
        ("score", ["--under", "concise", "not helpful", "--under", "It rhymes \U0001f3b5.", "--guard"]),
    ],
)
def test_the_options_of_a_run_label_the_same_again(
    command: str, flags: list[str], labelled: Any, config: Config, tmp_path: Path
) -> None:
    """As a file of their own, and out of the run.json; and the first run is complete under both."""
    rows = [row(id=str(number), prompt=f"q{number}", other="o") for number in range(3)]
    source = write_rows(tmp_path / "in.jsonl", rows)
    record, labels = labelled(source, "--out", tmp_path / "one", *flags, command=command)
    dump = config(json.dumps(record["options"]), "options.json")
    for path, out in ((dump, "two"), (tmp_path / "one" / "run.json", "three")):
        again, same = labelled("--config", path, "--out", tmp_path / out, command=command)
        assert same == labels
        assert again["options"] == record["options"] | {"out": str(tmp_path / out)}
        assert labelled("--config", path, "--out", tmp_path / "one", command=command)[1] == labels


def test_runs_of_the_first_record_are_resumed(labelled: Any, tmp_path: Path) -> None:
    """run.json had settings with null for defaults, and the rationale's beside the method."""
    source = write_rows(tmp_path / "in.jsonl", [row()])
    command = (source, "--out", tmp_path / "out", "--cot", "--max-rationale-tokens", "8")
    record, labels = labelled(*command)
    options = record.pop("options")
    record["settings"] = {name: value for name, value in options.items() if name not in ("under", "guard")} | {
        "principle_sets": [],
        "aggregate": None,
        "seed": None,
        "device": None,
    }
    record["method"]["reasoning"] = {"max_tokens": 8, "samples": 1}
    (tmp_path / "out" / "run.json").write_text(json.dumps(record))
    again, same = labelled(*command)
    assert (again["options"], same) == (options, labels)


# what is refused, and what is meant


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lable", "in.jsonl"], "there is no command 'lable'; did you mean label?"),
        (["label", "in.jsonl", "--tempature", "1"], "there is no option --tempature; did you mean --temperature?"),
        (["label", "in.jsonl", "--ot=x"], "there is no option --ot; did you mean --out?"),
        (["label", "in.jsonl", "--no-prefix-cach"], "did you mean --no-prefix-cache?"),
        (["label", "in.jsonl", "--frobnicate"], "there is no option --frobnicate; see preftree label --help"),
        (["label", "--limit", "3"], "the following arguments are required: INPUT, --out"),
        (["status", "dir", "more"], "unexpected argument 'more'"),
        (["label", "in.jsonl", "--out", "x", "--method", "salmom"], "'salmom' is not known; did you mean salmon?"),
        (["label", "in.jsonl", "--out", "x", "--dtype", "bf17"], "--dtype cannot be 'bf17'; did you mean bf16?"),
        (["label", "in.jsonl", "--out", "x", "--overwrite", "--force-new"], "--force-new excludes --overwrite"),
        (["label", "in.jsonl", "--out", "x", "--cot", "--kv-memory", "4QB"], "--kv-memory must be bytes, such as 4GB"),
        (["label", "in.jsonl", "--out", "x", "--kv-memory", "4GB"], "--kv-memory requires --cot"),
        (["label", "in.jsonl", "--out", "x", "--method", "direct", "--scale", "5-1"], "--scale 5-1 runs downwards"),
        (["label", "in.jsonl", "--out", "x", "--map", "prompt"], "--map prompt is not FIELD=COLUMN"),
        (["label", "in.jsonl", "--out", "x", "--by", "nosuch"], "no column nosuch for --by"),
        (["label", "in.jsonl", "--out", "x", "--by", "languag"], "it has language; did you mean language?"),
        (["label", "in.jsonl", "--out", "x", "--map", "prompt=promt"], "has no column promt to --map to prompt; it"),
        (["label", "in.jsonl", "--out", "x", "--map", "prompt=promt"], "did you mean prompt?"),
        (
            ["label", "in.jsonl", "--out", "x", "--map", "respnse_a=b"],
            "respnse_a is no field; did you mean response_a?",
        ),
        (["label", "in.jsonl", "--out", "x", "--method", "several"], "`preftree compare` runs"),
        (
            ["label", "in.jsonl", "--out", "x", "--method", "principled"],
            "has its own command: `preftree score`, without",
        ),
        (["label", "in.jsonl", "--out", "x", "--method", "reward"], "has its own command: `preftree reward`, without"),
        (["label", "in.jsonl", "--out", "x", "--method", "probe"], "has its own command: `preftree probe`, without"),
        (["label", "in.jsonl", "--out", "x", "--scale", "1-5"], "for direct and principled (`preftree score`)"),
        (["label", "in.jsonl", "--out", "x", "--shard", "3/2"], "--shard must be I/N"),
        (["label", "in.jsonl", "--out", "x", "--aggregate", "won"], "--aggregate is not for method rlaif"),
        (["export", "run", "--to", "trl-dop", "--out", "x"], "--to cannot be 'trl-dop'; did you mean trl-dpo?"),
    ],
    ids=str,
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "in.jsonl", [row(language="en")])
    assert cli.main(arguments) == USAGE
    assert said in one_error(capsys)


@pytest.mark.parametrize(("text", "value"), [("4096", 4096), ("4GB", 4 * 10**9), ("1.5 GiB", 3 << 29), ("8kb", 8000)])
def test_sizes(text: str, value: int) -> None:
    assert size(text) == value


def test_values_from_python_are_checked_alike() -> None:
    """Catches nonsense that only the command line refuses."""
    wrong: dict[str, Any]
    for wrong, said in (
        ({"limit": True}, "--limit must be a whole number, at least 1, not True"),
        ({"mapping": "prompt=q"}, "--map must be a list, not 'prompt=q'"),
        ({"dtype": "float8"}, "--dtype cannot be 'float8'"),
    ):
        with pytest.raises(pt.UsageError, match=re.escape(said)):
            JudgeOptions(input="x", **wrong)
    given: dict[str, Any] = {"template": Path("mine.txt"), "mapping": ["prompt=q"]}
    options = JudgeOptions(input="x", **given)
    assert (options.template, options.mapping) == ("mine.txt", ("prompt=q",))


def test_an_option_is_added_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    """A class with one more field is a flag, a key, a default and a check."""
    commands = {"show": Command("shows", pt.Salmon, lambda options: Result([], {}))}
    assert parse(commands, ["show", "--principles", "labelled", "--cot"])[1] == pt.Salmon("labelled", cot=True)
    assert issubclass(pt.Salmon, Options)
    assert build_parser(commands).prog == "preftree"
