"""What each command says: results on stdout in 80 columns, one JSON object with --json, warnings at the end."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from preftree.labeling import cli
from preftree.labeling.commands.table import COMMANDS
from preftree.labeling.report.text import aligned
from preftree.labeling.result import Result
from preftree.labeling.serving import server
from preftree.labeling.training import job
from tests.labeling.fakes import row, write_rows
from tests.labeling.reward_models import write_reward_model
from tests.processes import ROOT

_JUDGE = "--model model --dtype float32"
# In this order: later ones read what earlier ones have written.
CASES = {
    "label": f"label in.jsonl --out run {_JUDGE} --by source",
    "score": f"score in.jsonl --out scored {_JUDGE} --under concise",
    "reward": "reward in.jsonl --out rewarded --model rewarding --dtype float32",
    "sample": f"sample prompts.jsonl --out drawn.jsonl {_JUDGE} --max-tokens 4",
    "serve": "serve --model model",
    "compare": f"compare in.jsonl --out compared {_JUDGE} --template general --template helpfulness --overwrite",
    "status": "status run",
    "merge": "merge part-1 part-2 --out merged --overwrite",
    "aggregate": "aggregate run",
    "calibrate": "calibrate run --method isotonic --out calibration.json --overwrite",
    "probe": f"probe in.jsonl --out probed {_JUDGE}",
    "combine": "combine run again --out panel --overwrite",
    "verify": "verify run -n 2",
    "plan": f"plan in.jsonl {_JUDGE}",
    "show": "show run --biased",
    "report": "report salmon",
    "templates": "templates",
    "doctor": "doctor model",
    "fetch-model": "fetch-model embedded",
    "instructions": "instructions salmon --out instructions.jsonl --min-score 0 --overwrite",
    "export": "export run --to trl-dpo --out pairs.jsonl --overwrite",
    "train": "train run --model model --out trained",
}
_BEFORE = (
    f"label in.jsonl --out again {_JUDGE} --template helpfulness",
    f"label in.jsonl --out part-1 {_JUDGE} --shard 1/2",
    f"label in.jsonl --out part-2 {_JUDGE} --shard 2/2",
    f"label in.jsonl --out salmon {_JUDGE} --method salmon",
)


class Said(NamedTuple):
    code: int
    out: str
    err: str


def said(words: str) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main(words.split())
    return Said(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory, small_model: str) -> Iterator[Path]:
    """A directory in which all commands can be run."""
    here = tmp_path_factory.mktemp("said")
    (here / "model").symlink_to(small_model)
    write_reward_model(here / "rewarding")
    source = "a source whose name is so long that it does not fit"
    rows = [row(id=f"row {k}", gold="ab"[k % 2], response_a=f"this {k}", source=source) for k in range(12)]
    write_rows(here / "in.jsonl", [*rows, row(id="bad", response_b=None)])
    write_rows(here / "prompts.jsonl", [{"id": "p", "prompt": "Which?"}])
    with pytest.MonkeyPatch.context() as patch, chdir(here):
        patch.setattr(server, "serve", lambda options: "http://127.0.0.1:1")
        patch.setattr(job, "train", lambda options: Result(["trained"], {"reward_model": options.out}))
        for words in _BEFORE:
            assert said(words).code in (0, 3)
        yield here


@pytest.fixture(scope="module")
def lines(there: Path) -> dict[str, Said]:
    return {name: said(words) for name, words in CASES.items()}


@pytest.fixture(scope="module")
def objects(lines: dict[str, Said]) -> dict[str, Said]:
    return {name: said(f"{words} --json") for name, words in CASES.items()}


def test_every_command_is_looked_at() -> None:
    """Catches a new command whose words nobody has looked at."""
    assert CASES.keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", CASES)
def test_results_are_on_stdout_and_fit(lines: dict[str, Said], name: str) -> None:
    """Catches a summary that a pipe does not get, and lines that a terminal of 80 columns breaks inside words."""
    found = lines[name]
    assert found.code in (0, 3), found.err
    assert found.out or name == "serve"
    summary = found.out.partition("\n----")[0]  # a prompt comes as it is
    assert [line for line in summary.splitlines() if len(line) > 80 and is_breakable(line)] == []


def is_breakable(line: str) -> bool:
    """A path stays whole, wherever it ends."""
    return " " in line.strip().split("  ")[-1].strip()


@pytest.mark.parametrize("name", CASES)
def test_json_is_one_documented_object(objects: dict[str, Said], name: str) -> None:
    """Catches talk between the braces, NaN, a field that nobody can look up, and another exit code than without."""
    found = objects[name]
    assert found.code in (0, 3), found.err
    data = json.loads(found.out, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert isinstance(data, dict)
    assert data.keys() <= documented(name)


def documented(name: str) -> set[str]:
    text = (ROOT / "docs" / "json.md").read_text()
    [line] = [line for line in text.splitlines() if re.match(rf"\|.*`{name}`.*\|", line)]
    return {*re.findall(r"`(\w+)`", line.split("|")[2])} | _figures(text)


def _figures(text: str) -> set[str]:
    """Those that follow from the columns of labels; they stand under a heading of their own."""
    return {*re.findall(r"^- `(\w+)`", text, re.MULTILINE)}


@pytest.mark.parametrize("name", CASES)
def test_errors_are_json_too(there: Path, name: str) -> None:
    """Catches a program that waits for an object and gets nothing, on wrong usage and on a file that is not there."""
    usage = said(f"{name} --no-such-flag --json")
    assert usage.code == 2
    assert json.loads(usage.out)["exit_code"] == 2
    assert usage.err == f"preftree: {json.loads(usage.out)['error']}\n"
    if name in ("serve", "train", "doctor", "fetch-model"):  # stand-ins; doctor has findings
        return
    first = CASES[name].split()
    missing = said(" ".join([name, "nowhere", *first[2:], "--json"]))
    assert missing.code == 1
    assert "nowhere" in json.loads(missing.out)["error"]


def test_a_summary_ends_with_what_matters(lines: dict[str, Said], objects: dict[str, Said]) -> None:
    """Catches warnings that scroll away, and a summary that leaves the reader without a next step."""
    names = [line.split("  ")[0] for line in lines["label"].out.splitlines() if not line.startswith(" ")]
    assert names[-1] == "next"
    assert names[-2] == "warning"
    assert names.index("files") < names.index("labels") < names.index("agreement with gold") < len(names) - 2
    meant = json.loads(objects["label"].out)["findings"]
    assert [one["about"] for one in meant if one["kind"] == "warning"]


def test_warnings_are_in_report_and_export(lines: dict[str, Said], there: Path) -> None:
    """Catches a consequence that is said once, when nobody looks, and is gone when the labels are used."""
    summary = " ".join(lines["label"].out.split())
    report, page = said("report run"), said("report run --html page.html --overwrite")
    for shown in (report, page, lines["export"], lines["status"]):
        assert "agreement with gold may be chance" in " ".join(shown.out.split())
    assert "agreement with gold may be chance" in summary
    assert "agreement with gold may be chance" in Path("page.html").read_text()


def test_the_salmon_summary_ends_with_agreement(there: Path) -> None:
    """Catches a table of principles after which agreement is out of sight, and probabilities without calibration."""
    shown = said("report salmon").out
    assert shown.index("principles") < shown.index("agreement with gold") < shown.index("calibration")


def test_show_prints_json_values(there: Path) -> None:
    """Catches Python's lists, None and quotes in what people copy."""
    shown = said("show salmon --biased").out + said("show run line-1").out
    assert "'" not in shown.partition("----")[0]


def test_reading_your_labels_shows_every_figure(lines: dict[str, Said]) -> None:
    """Catches a page on how to read a summary that shows figures of an earlier version."""
    page = (ROOT / "docs" / "reading-your-labels.md").read_text(encoding="utf-8")
    [shown] = re.findall(r"^```\n(labels .*?)^\.\.\.\n```$", page, re.DOTALL | re.MULTILINE)
    assert max(map(len, shown.splitlines())) <= 80
    figures = _names(said("report run").out.partition("\nwarning")[0])
    assert _names(shown) == [name for name in figures if name != "rejected"]


def _names(summary: str) -> list[str]:
    """What stands left of the gap."""
    return [line.partition("  ")[0] for line in summary.splitlines() if not line.startswith(" ")]


def test_aligned_wraps_at_words() -> None:
    """Catches words that are broken, lost or glued together, a path that is broken, and a table that is mangled."""
    words = " ".join(f"word{k}" for k in range(60))
    path = "/" + "x" * 100
    text = aligned([("a name", words), ("file", path), ("table", "a   b"), ("table", f"{'c' * 70}  1  2  3  4")])
    assert "  ".join(text.split()) == "  ".join(f"a name {words} file {path} table a b {'c' * 70} 1 2 3 4".split())
    first, *rest = text.splitlines()
    assert first.startswith("a name  word0 word1")
    assert all(len(line) <= 80 for line in [first, *rest] if path not in line)
    assert all(line.startswith("        word") for line in rest[: rest.index(f"file    {path}")])
    assert "\ntable\n  a   b\n" in text


@pytest.mark.parametrize("name", ["next", "to resume"])
def test_a_command_is_wrapped_for_a_shell(name: str) -> None:
    """Catches a command beyond 80 columns, one whose lines a shell takes for several, and one broken inside quotes."""
    command = "preftree label runs/sampled.jsonl --method ranking --out runs/sampled.jsonl.labels --quiet"
    first, second = aligned([(name, command)]).splitlines()
    assert max(len(first), len(second)) <= 80
    assert first.endswith(" \\")
    assert shlex.split(f"{first} {second}".replace("\\ ", ""))[len(name.split()) :] == command.split()
    quoted = f"preftree show run {'x ' * 40!r}"
    assert aligned([(name, quoted)]) == f"{name}  {quoted}"
