"""A run: order, windows, rejected rows, all or nothing, constant memory."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError, ModelError, OutputError
from preftree.labeling import pipeline
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.pipeline import Labelled, label_samples
from preftree.labeling.progress import Progress
from preftree.labeling.report.text import RunSummary
from preftree.labeling.runs.run import run_label
from preftree.labeling.types import Message, Pair, Rejected
from tests.labeling.fakes import FakeMethod, FakeScorer, fake_scorer_factory, open_fake_method, row, write_rows
from tests.processes import printed

parquet = pytest.importorskip("pyarrow.parquet")


def pair(identity: str, response: str = "this") -> Pair:
    return Pair(identity, (Message("user", "Which?"),), response, f"that {identity}", line=int(identity))


def label(items: list[Pair | Rejected], scorer: FakeScorer | None = None) -> list[Labelled]:
    return list(label_samples(items, FakeMethod(), scorer or FakeScorer()))  # type: ignore[arg-type]


def run(source: Path, out: Path, scorer: FakeScorer | None = None, **changes: Any) -> RunSummary:
    options = LabelOptions(input=str(source), out=str(out), quiet=True, **changes)
    return run_label(options, fake_scorer_factory(scorer), open_fake_method)


def test_order_is_kept_and_rejected_rows_stay_in_place() -> None:
    """Catches rejected rows that overtake the window, and scores handed to the wrong pair after one."""
    items: list[Pair | Rejected] = [
        Rejected(1, "bad"),
        pair("2"),
        pair("3", "TOO LONG"),
        Rejected(4, "bad"),
        pair("5", "NOT FINITE"),
        pair("6"),
    ]
    done = label(items)
    assert [entry.item.line for entry in done] == [1, 2, 3, 4, 5, 6]
    assert [entry.reason for entry in done] == [
        "bad",
        None,
        "the prompt has 9,000 tokens, the model's context is 8,192",
        "bad",
        "the scores are not finite",
        None,
    ]
    assert done[5].label == label([pair("6")])[0].label
    assert [entry.label is None for entry in done] == [entry.reason is not None for entry in done]


def test_labels_do_not_depend_on_windows() -> None:
    """Catches a pair split over two windows or dropped between them."""
    items: list[Pair | Rejected] = [pair(str(number)) for number in range(1, 50)]
    whole = label(items)
    for window_tokens in (1, 60, 200, 10**9):
        scorer = FakeScorer(window_tokens)
        assert label(items, scorer) == whole
        assert sum(scorer.calls) == 98
        assert scorer.calls.count(2) == (49 if window_tokens == 1 else scorer.calls.count(2))


def test_a_window_holds_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches windows that overfill by the pair that closes them: an extra forward pass for a few tokens."""
    items: list[Pair | Rejected] = [pair(str(number)) for number in range(10, 20)]
    one = FakeScorer().unique_tokens([FakeScorer().encode(r) for r in FakeMethod().requests(pair("10"))])
    monkeypatch.setattr(pipeline, "FIRST_WINDOW", 1)
    scorer = FakeScorer(window_tokens=3 * one + 1)
    label(items, scorer)
    assert scorer.calls == [6, 6, 6, 2]


def test_rejected_rows_alone_neither_wait_nor_score() -> None:
    """Catches an engine called with no prompts, and a run of bad rows held in memory until a good one comes."""
    scorer = FakeScorer()
    pulled = 0

    def endless() -> Iterator[Rejected]:
        nonlocal pulled
        while pulled < 100_000:
            pulled += 1
            yield Rejected(pulled, "bad")

    first = next(label_samples(endless(), FakeMethod(), scorer))  # type: ignore[arg-type]
    assert first == Labelled(Rejected(1, "bad"))
    assert pulled <= 2000
    assert scorer.calls == []


def test_the_record_of_a_run(tmp_path: Path) -> None:
    """Catches a run.json from which labels cannot be traced to input, template, model and settings."""
    source = write_rows(tmp_path / "in.jsonl", [row(id="1", gold="a"), row(id="2", prompt=""), b"bad", b"bad"])
    summary = run(source, tmp_path / "out", limit=3)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["input"] == {
        "path": str(source.absolute()),
        "rows": 4,
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    assert record["method"]["template"]["source"] == "fake template, {{ prompt }}"
    assert record["method"]["template"]["sha256"] == "0" * 64
    assert record["scorer"] == {"model": "fake", "model_sha256": "1" * 64, "rendering": "plain"}
    assert {"preftree", "python", "pyarrow", "fake"} <= record["versions"].keys()
    assert record["options"]["limit"] == 3
    totals = record["totals"]
    assert (totals["rows"], totals["ok"], totals["rejected"]) == (3, 1, 2)
    assert totals["rejected_by_reason"] == {"blank text": 1, "broken JSON": 1}
    assert totals["sharing"] == pytest.approx(2.0, rel=0.05)
    assert record["quality"]["gold_pairs"] == 1
    assert list(record) == sorted(record)
    assert summary.rejections.count == 2


def test_limit_gives_the_same_rows(tmp_path: Path) -> None:
    """Catches labels or columns that depend on how much of the file was labelled."""
    rows = [row(id=number, response_b=f"that {number}") for number in range(9)] + [row(id="last", note="x")]
    source = write_rows(tmp_path / "in.jsonl", rows)
    run(source, tmp_path / "all")
    run(source, tmp_path / "some", limit=4)
    whole = parquet.read_table(tmp_path / "all" / "labels.parquet")
    assert parquet.read_table(tmp_path / "some" / "labels.parquet") == whole.slice(0, 4)
    assert whole.num_rows == 10


def test_swapped_input_swaps_labels(tmp_path: Path) -> None:
    """Catches the two orders' scores taken for each other on the way from method to table."""
    source = write_rows(tmp_path / "in.jsonl", [row(response_a="x", response_b="y")])
    mirror = write_rows(tmp_path / "mirror.jsonl", [row(response_a="y", response_b="x")])
    run(source, tmp_path / "one")
    run(mirror, tmp_path / "two")
    [one] = parquet.read_table(tmp_path / "one" / "labels.parquet").to_pylist()
    [two] = parquet.read_table(tmp_path / "two" / "labels.parquet").to_pylist()
    assert one["p_a"] == pytest.approx(1 - two["p_a"])
    assert one["p_a_first"] == pytest.approx(1 - two["p_a_second"])


def test_an_engine_that_breaks_leaves_no_labels(tmp_path: Path) -> None:
    """Catches labels.parquet with the first windows of a run that failed, and a temporary file left over."""
    rows = [row(id=1), row(id=2, prompt="BOOM")]
    source = write_rows(tmp_path / "in.jsonl", rows)
    with pytest.raises(RuntimeError, match="the engine broke"):
        run(source, tmp_path / "out", FakeScorer(window_tokens=1))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["answers", "lock", "run.json"]


def test_cheap_mistakes_are_found_before_the_model_loads(tmp_path: Path) -> None:
    """Catches a minute of loading spent before "file exists"."""
    source = write_rows(tmp_path / "in.jsonl", [row()])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "labels.parquet").write_text("precious")

    def explode(*_: object) -> Any:
        raise AssertionError("the model was loaded")

    def no_template(*_: object) -> Any:
        raise InputError("template 'x' is neither a file nor one of: general")

    cases: list[tuple[Path, str, Callable[..., Any], type[Exception], str]] = [
        (tmp_path / "none.jsonl", "out", open_fake_method, InputError, "no such file"),
        (source, "full", open_fake_method, OutputError, "exists already"),
        (source, "in.jsonl", open_fake_method, OutputError, "is not a directory"),
        (source, "out", no_template, InputError, "template 'x'"),
    ]
    for path, out, method, error, message in cases:
        options = LabelOptions(input=str(path), out=str(tmp_path / out), quiet=True)
        with pytest.raises(error, match=message):
            run_label(options, explode, method)
    assert not (tmp_path / "out").exists()


def test_a_missing_model_leaves_nothing(tmp_path: Path) -> None:
    """Catches an empty directory that makes the next attempt look like a second one."""

    def missing(*_: object) -> Any:
        raise ModelError("no such model: x")

    options = LabelOptions(input=str(write_rows(tmp_path / "in.jsonl", [row()])), out=str(tmp_path / "out"))
    with pytest.raises(ModelError):
        run_label(options, missing, open_fake_method)
    assert not (tmp_path / "out").exists()


def test_an_input_that_changes_meanwhile(tmp_path: Path) -> None:
    """Catches labels recorded under the hash of a file they were not made from."""
    source = write_rows(tmp_path / "in.jsonl", [row(id=1), row(id=2)])

    class Meddler(FakeScorer):
        def score(self, encoded: Any) -> Any:
            write_rows(source, [row(id=1), row(id=2, response_a="edited")])
            return super().score(encoded)

    with pytest.raises(InputError, match="changed while it was being labelled"):
        run(source, tmp_path / "out", Meddler())
    assert not (tmp_path / "out" / "labels.parquet").exists()
    write_rows(source, [row(id=1), row(id=2)])
    scorer = FakeScorer()
    run(source, tmp_path / "out", scorer)
    assert sum(scorer.calls) == 4, "answers about the other file's rows were kept"


STREAM = """
import resource, sys
from tests.labeling.fakes import fake_scorer_factory, open_fake_method
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.runs.run import run_label

for limit in (20_000, 50_000):  # the first one warms the allocators up
    options = LabelOptions(input=sys.argv[1], out=f"{sys.argv[2]}/{limit}", limit=limit, quiet=True)
    run_label(options, fake_scorer_factory(), open_fake_method)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_fifty_thousand_rows_stream_in_constant_memory(tmp_path: Path) -> None:
    """Catches any list of rows, prompts, scores or labels that grows with the file: its texts alone are 100 MB."""
    source = tmp_path / "in.jsonl"
    with source.open("w") as file:
        for number in range(50_000):
            file.write(json.dumps(row(id=f"id {number}", response_a=f"a {number}", note=f"{number}" * 400)) + "\n")
    first_peak, last_peak = map(int, printed("-c", STREAM, source, tmp_path).split())
    assert last_peak - first_peak < 20_000, "KiB, for 60 MB of text and 30,000 ids"
    assert parquet.read_metadata(tmp_path / "50000" / "labels.parquet").num_rows == 50_000


BAR = """
import time
from preftree.labeling.progress import Progress

with Progress(3) as bar:
    time.sleep(1.2)
    for _ in range(3):
        bar.advance()
"""


def test_progress_on_a_terminal() -> None:
    """Catches a bar that stays hidden where the terminal claims a size of 0 by 0, as it does in a container, and one
    whose clock stands still while the first rows are scored.
    """
    code = "import pty, sys; sys.exit(pty.spawn([sys.executable, '-c', sys.argv[1]]))"
    shown = printed("-c", code, BAR, given="")
    assert "0/3 [00:01<?" in shown
    assert "3/3" in shown
    assert "pair/s" in shown


def test_progress_without_a_terminal_is_sparse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches log files full of carriage returns, and a rate of 0.0 below one row a second."""
    monkeypatch.setattr("preftree.labeling.progress._SECONDS_BETWEEN_LINES", 1.0)
    with Progress(1000, noun="row", done=10) as progress:
        time.sleep(1.1)
        for _ in range(10):
            progress.advance(0)
        progress.advance()
        time.sleep(1.0)
    text = capsys.readouterr().err
    assert "\r" not in text
    first, second = text.splitlines()
    assert first == "10 of 1000 rows, ?row/s, 00:01 elapsed, ? left"
    assert re.fullmatch(r"11 of 1000 rows, +[12]\.\d\ds/row, 00:02 elapsed, 3\d:\d\d left", second), second


def test_rows_of_another_kind(tmp_path: Path) -> None:
    """Catches a file of single responses that loads a model to reject every row, and one such row that stops a run."""
    single = {"id": "s", "prompt": "Which?", "response": "this"}
    source = write_rows(tmp_path / "in.jsonl", [b"bad", single])
    with pytest.raises(InputError, match="line 2: has response, but method rlaif needs response_a and response_b"):
        run(source, tmp_path / "out")
    source = write_rows(tmp_path / "mixed.jsonl", [single, row(id="x"), {**single, "id": "t", "responses": ["a", "b"]}])
    summary = run(source, tmp_path / "out")
    assert (summary.ok, summary.rejections.kinds) == (1, {"wrong kind": 2})


@pytest.mark.parametrize(
    ("method", "option", "value", "message"),
    [
        ("rlaif", "scale", "1-5", "--scale is not for method rlaif; it is for direct and principled"),
        ("direct", "principles", "labelled", "--principles is not for method direct"),
        ("ranking", "aggregate", "won", "--aggregate is not for method ranking; it is for salmon"),
        ("salmon", "comparisons", 4, "--comparisons is not for method salmon"),
        ("best", "scale", None, "method 'best' is not known; use one of rlaif, direct"),
    ],
)
def test_options_of_other_methods_are_not_dropped(method: str, option: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_method(JudgeOptions(input="x", method=method, **{option: value}))
