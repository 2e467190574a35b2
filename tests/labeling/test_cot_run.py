"""`preftree label --cot` from the command line to columns, record, summary, plan and show, with a fake engine."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError
from preftree.engine.generation import Generation, Sampling
from preftree.labeling import cli
from preftree.labeling.commands.table import USAGE
from preftree.labeling.progress import Progress
from preftree.labeling.runs import plan, run, show
from tests.labeling import fake_engine
from tests.labeling.fake_engine import FakeEngine, fake_scorer
from tests.labeling.fakes import row, write_rows
from tests.models import SMALL_CONFIG, write_model

parquet = pytest.importorskip("pyarrow.parquet")

DRAWN = ("--samples", "3", "--temperature", "0.7", "--top-k", "40", "--top-p", "0.9", "--seed", "5")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG))


@pytest.fixture
def engine(model: str, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The command line with a fake engine behind it."""
    fake = FakeEngine()
    for module in (plan, run, show):
        monkeypatch.setattr(
            module,
            "load_judge",
            lambda options, weights=True: fake_scorer(model, fake if weights else None, options.batch_tokens),
        )
    return fake


@pytest.fixture
def label(engine: FakeEngine, tmp_path: Path) -> Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Labels rows with --cot; the labelled rows and run.json."""

    def labelled(rows: list[dict[str, Any]], *options: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        out = tmp_path / f"out {len(list(tmp_path.iterdir()))}"
        source = write_rows(tmp_path / "in.jsonl", rows)
        assert (
            cli.main(["label", str(source), "--cot", "--max-rationale-tokens", "8", "--out", str(out), *options]) == 0
        )
        table = parquet.read_table(out / "labels.parquet").to_pylist()
        return table, json.loads((out / "run.json").read_text()) | {"directory": str(out)}

    return labelled


def test_columns_of_rlaif(label: Any, engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches rationales of one order under the other's name, counts that do not add up, and settings not recorded."""
    [one, two], record = label([row(id="one"), row(id="two", response_b="other")])
    assert list(one)[9:15] == [
        "rationale_first",
        "rationale_second",
        "rationale_tokens_first",
        "rationale_tokens_second",
        "rationale_cut_first",
        "rationale_cut_second",
    ]
    assert one["rationale_first"] != one["rationale_second"]
    assert one["rationale_cut_first"] == (one["rationale_tokens_first"] == 8)
    [[mirror], _] = label([row(id="one", response_a="that", response_b="this")])
    assert mirror["rationale_first"] == one["rationale_second"]
    assert mirror["p_a"] == 1 - one["p_a"]
    tokens = sum(entry[f"rationale_tokens_{order}"] for entry in (one, two) for order in ("first", "second"))
    cut = sum(entry[f"rationale_cut_{order}"] for entry in (one, two) for order in ("first", "second"))
    totals = record["totals"]
    assert (totals["rationales"], totals["generated_tokens"], totals["cut_rationales"]) == (4, tokens, cut)
    assert record["options"]["cot"] is True
    assert record["options"]["max_rationale_tokens"] == 8
    summary = " ".join(capsys.readouterr().out.split())
    assert f"rationales 4 of {tokens / 4:,.0f} tokens in the mean, {tokens} in all; " in summary
    assert " generated tokens/s over " in summary


def test_several_samples_are_lists(label: Any, engine: FakeEngine) -> None:
    [one], record = label([row(id="one")], *DRAWN)
    assert len(set(one["rationale_first"])) == 3
    assert [len(one[f"rationale_{name}_second"]) for name in ("tokens", "cut")] == [3, 3]
    assert engine.asked[-1] == Sampling(
        max_new_tokens=8, n=3, temperature=0.7, top_k=40, top_p=0.9, seed=5, stop=("\n### Prompt",)
    )
    assert record["totals"]["rationales"] == 6


def test_columns_of_salmon_and_direct(label: Any) -> None:
    """Catches a principle under another's rationale, and a pair's rationale in the columns of a single response."""
    [one], record = label([row(id="one")], "--method", "salmon", *DRAWN)
    texts = [tuple(judged[f"rationale_{order}"]) for judged in one["principles"] for order in ("first", "second")]
    assert len(set(texts)) == len(texts) == 22
    assert record["totals"]["rationales"] == 66
    single = row(id="single", response="only", response_a=None, response_b=None)
    [alone, pair], _ = label([single, row(id="pair", response_a="only")], "--method", "direct")
    assert alone["rationale"] == pair["rationale_a"] != pair["rationale_b"]
    assert alone["rationale_a"] is pair["rationale"] is pair["rationale_cut"] is None
    assert alone["rationale_tokens"] == pair["rationale_tokens_a"]


def test_show(label: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a rationale under the other order's prompt, and one that writes to the terminal as it likes."""

    def hostile(prompt: Any, sample: int, sampling: Sampling) -> Generation:
        return Generation([1, 2, 3], f"\x1b[2J{len(prompt)} {sum(prompt)} {sample}\nAnswer: 2", "length")

    monkeypatch.setattr(fake_engine, "wrote", hostile)
    [one], record = label([row(id="one", response_b="that\nthere")], *DRAWN)
    capsys.readouterr()
    assert cli.main(["show", record["directory"], "one"]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    text = text[text.index("---- prompt, A first ----") :]
    places = []
    for order, name in (("A first", "first"), ("B first", "second")):
        places.append(text.index(f"---- prompt, {order} ----"))
        for number, written in enumerate(one[f"rationale_{name}"], 1):
            heading = f"---- rationale {number} of 3, {order}: 3 tokens, cut off there ----\n"
            places.append(text.index(heading + written.replace("\x1b", "\\x1b")))
        places.append(text.index(f"---- answer, {order}: A is better with p {one[f'p_a_{name}']:.6f}"))
    assert places == sorted(places)


def test_plan(engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a plan that does not say what is to be written, which takes longest, and one that writes it."""
    source = write_rows(tmp_path / "in.jsonl", [row(id="one"), row(id="two", response_b="other")])
    assert cli.main(["plan", str(source), "--cot", *DRAWN]) == 0
    text = capsys.readouterr().out
    assert "rationales     12 of at most 512 tokens: 6,144 tokens to generate at most" in text
    assert 'label ids      "1" = [' in text
    assert text.endswith(
        "explain in a few sentences which response is better and why.</s><|user|>assistant\nExplanation:\n"
        "\n---- then, after the rationale ----\n\n\nBetter response: \n"
    )
    assert engine.calls == 0
    assert cli.main(["plan", str(source)]) == 0
    text = capsys.readouterr().out
    assert "rationale" not in text
    assert "Explanation" not in text


def test_rows_without_room_are_rejected(engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches one long row that ends a run."""
    source = write_rows(tmp_path / "in.jsonl", [row(id="long", prompt="x" * 2500), row(id="short")])
    out = tmp_path / "out"
    assert cli.main(["label", str(source), "--cot", "--max-rationale-tokens", "1000", "--out", str(out)]) == 3
    [long, short] = parquet.read_table(out / "labels.parquet").to_pylist()
    assert (long["status"], short["status"]) == ("rejected", "ok")
    assert long["reason"].startswith("line 1: no room for a rationale: ")
    assert long["rationale_first"] is None
    assert "line 1: no room for a rationale: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--samples", "3"], "--samples requires --cot"),
        (["--cot", "--samples", "3"], "--samples requires --temperature above 0"),
        (["--cot", "--temperature", "nan"], "--temperature must be 0"),
        (["--cot", "--method", "ranking"], "--cot is not for method ranking"),
        (["--cot", "--samples", "0"], "--samples must be a whole number, from 1 to 256"),
        (["--cot", "--max-rationale-tokens", "-1"], "--max-rationale-tokens must be a whole number"),
        (
            ["--cot", "--temperature", "hot"],
            "--temperature must be 0 (the most probable) or from 0.01 to 100, not 'hot'",
        ),
        (["--cot", "--top-p", "0.5"], "--top-p requires --temperature above 0"),
    ],
)
def test_wrong_options_are_one_line(
    options: list[str], said: str, engine: FakeEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches options that are dropped in silence, and mistakes found when the model is loaded."""
    source = write_rows(tmp_path / "in.jsonl", [row()])
    command = ["label", str(source), "--out", str(tmp_path / "out"), "--quiet", *options]
    assert cli.main(command) == USAGE
    last = capsys.readouterr().err.splitlines()[-1]
    assert said in last
    assert not engine.asked


def test_what_the_engine_refuses_is_one_line(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a traceback where memory holds no sequence at all."""

    def refuse(*_: Any) -> Any:
        raise InputError("kv_memory keeps 5 tokens, but prompt 0 needs 9")

    monkeypatch.setattr(engine, "generate_and_score_stream", refuse)
    source = write_rows(tmp_path / "in.jsonl", [row()])
    assert cli.main(["label", str(source), "--out", str(tmp_path / "out"), "--quiet", "--cot"]) == 1
    assert capsys.readouterr().err == "preftree: kv_memory keeps 5 tokens, but prompt 0 needs 9\n"
    assert not (tmp_path / "out").exists()


def test_a_broken_run_goes_on_with_the_rationales_it_has(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches rationales that are lost with the process that wrote them, or written again by the next one."""
    source = write_rows(tmp_path / "in.jsonl", [row(id=f"{n}", response_b=f"that {n}") for n in range(4)])

    def command(out: str) -> list[str]:
        return ["label", str(source), "--out", str(tmp_path / out), "--quiet", "--batch-tokens", "1", "--cot", *DRAWN]

    generate_and_score_stream = engine.generate_and_score_stream

    def breaking(*asked: Any) -> Iterator[Any]:
        yield from islice(generate_and_score_stream(*asked), 2)
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(engine, "generate_and_score_stream", breaking)
        assert cli.main(command("broken")) == 1
    engine.calls = 0
    assert cli.main([*command("broken"), "--kv-memory", "1000000"]) == 0
    asked_again = engine.calls
    assert cli.main(command("whole")) == 0
    assert (asked_again, engine.calls - asked_again) == (2, 4)
    broken, whole = (parquet.read_table(tmp_path / out / "labels.parquet") for out in ("broken", "whole"))
    assert broken == whole


def test_progress_of_rationales_fits_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches seconds a row, time left, or tokens a second that 80 columns cut off."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("COLUMNS", "80")
    with Progress(1000) as progress:
        progress.planned(10, 20)
        time.sleep(1.0)
        progress.written(90, 1)
        progress._bar.refresh()
    last = re.split(r"[\r\n]", shown.getvalue().strip())[-1]
    assert len(last) <= 80
    assert re.search(r"0/1000 \[00:01<\d+:\d\d, +[12]\.\d\ds/pair, 1 written, [789]\d tokens/s\]$", last), last


def test_progress_shows_both_phases(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches half an hour of silence, or of an unknown time left, while the first rationales are written."""
    monkeypatch.setattr("preftree.labeling.progress._SECONDS_BETWEEN_LINES", 1.1)
    with Progress(10) as progress:
        progress.planned(10, 40)
        progress.written(100, 0)
        time.sleep(1.0)
        progress.written(900, 8)  # those of two pairs of ten
        time.sleep(0.3)
    [line] = capsys.readouterr().err.splitlines()
    said = r"0 of 10 pairs, +[12]\.\d\dpair/s, 00:01 elapsed, 00:0[3-6] left, "
    assert re.fullmatch(said + r"8 rationales written, 1,000 tokens, (1,000|[89]\d\d) tokens/s", line), line
