"""`preftree verify`: rows are judged again to the bit, and what is not the same is found."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from preftree.labeling import cli
from preftree.labeling.answers.answers import Answers
from preftree.labeling.answers.entry import Entry
from preftree.labeling.answers.part import write_part
from preftree.labeling.data.folder import LocalFolder
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.methods import JudgeOptions
from preftree.labeling.types import RequestScores
from tests.labeling.commands import one_error
from tests.labeling.fakes import row, write_rows
from tests.labeling.opened import read

COT = ("--cot", "--max-rationale-tokens", "4")
RUNS = {
    "direct": ("--method", "direct"),
    "salmon": ("--method", "salmon"),
    "greedy": COT,
    "drawn": (*COT, "--samples", "2", "--temperature", "5", "--seed", "3"),
}


@pytest.fixture(scope="module")
def runs(small_model: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a finished run, by its name in `RUNS`."""
    return cache(lambda name: label(tmp_path_factory.mktemp(name), small_model, RUNS[name]))


@pytest.fixture(params=RUNS)
def finished(request: pytest.FixtureRequest, runs: Callable[[str], Path], tmp_path: Path) -> Path:
    return shutil.copytree(runs(request.param), tmp_path / "out")


@pytest.fixture
def explained(runs: Callable[[str], Path], tmp_path: Path) -> Path:
    return shutil.copytree(runs("greedy"), tmp_path / "out")


def label(directory: Path, model: str, options: tuple[str, ...]) -> Path:
    """The directory of a finished run."""
    rows = [row(id=f"row {n}", response_a="this " * n, response_b=f"that {n}") for n in range(1, 6)]
    source, out = write_rows(directory / "in.jsonl", [*rows, row(id="bad", prompt=None)]), directory / "out"
    shared = ["--model", model, "--dtype", "float32", "--device", "cpu", "--quiet", "--allow-low-mass"]
    assert cli.main(["label", str(source), "--out", str(out), *shared, *options]) == 3
    return out


def rewrite(out: Path, change: Callable[[Entry], Entry | None]) -> None:
    """Answers of a run changed, in whole parts; a row that is None is taken out."""
    answers = Answers.open(out / "answers")
    entries = [new for entry in answers.entries() if (new := change(entry)) is not None]
    for part in answers.parts:
        part.path.unlink()
    write_part(LocalFolder(out / "answers"), 1, answers.parts[0].run, entries, answers.attempts())


def with_first(entry: Entry, scores: RequestScores) -> Entry:
    return entry._replace(scores=(scores, *entry.scores[1:]))


def verified(out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    """Exit code, what is on stdout, and on stderr."""
    capsys.readouterr()
    code = cli.main(["verify", str(out), "--quiet", *options])
    return code, *capsys.readouterr()


def test_every_answer_is_the_same(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches rationales that are scored in another way than they were written, and rows that change places."""
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    code, out, err = verified(finished, capsys)
    assert (code, err) == (0, "")
    assert out.startswith("verified    5 of 5 answered rows, ")
    number = out.split()[6]
    assert f"same bits   {number} of {number} answers\ndifference  0 at most" in out
    assert "changed" not in out
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_a_last_bit_is_found(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a comparison with a tolerance, and one of labels, in which two answers may cancel out."""

    def change(entry: Entry) -> Entry:
        if entry.id != "row 3":
            return entry
        scores = entry.scores[0]
        first, *others = scores.answers
        logprob = (math.nextafter(first.logprob[0], 0), *first.logprob[1:])
        return with_first(entry, scores._replace(answers=(first._replace(logprob=logprob), *others)))

    rewrite(finished, change)
    code, out, err = verified(finished, capsys)
    assert code == 1
    [line] = [line for line in out.splitlines() if line.startswith("differs")]
    assert line.startswith("differs     row 3 (line 3): 1 of ")
    assert err.startswith("preftree: 1 of ")
    assert err.count("\n") == 1


def test_rows_are_drawn_by_seed(explained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches the first rows in the place of a sample, and a seed without effect: row 3 differs and others do not."""
    rewrite(explained, lambda entry: entry if entry.id != "row 3" else with_first(entry, entry.scores[1]))
    codes = [verified(explained, capsys, "-n", "2", "--seed", str(seed))[0] for seed in range(3)]
    assert set(codes) == {0, 1}


def test_text_that_encodes_otherwise(explained: Path, small_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a rationale that is encoded from its text: "t" and "h" were written, "th" is a token of its own."""
    judge = Judge.load(small_model, dtype="float32", device="cpu")
    ids = (*judge.tokenizer.encode(["t"]), *judge.tokenizer.encode(["h"]))
    merged = tuple(judge.tokenizer.encode([judge.tokenizer.decode(ids)]))
    assert (len(ids), len(merged)) == (2, 1)
    options = JudgeOptions(input="x", cot=True, max_rationale_tokens=4)
    first = next(read(Path(json.loads((explained / "run.json").read_text())["input"]["path"])))
    encoded = judge.encode(open_method(options).requests(first)[0])  # type: ignore[arg-type]
    [written] = judge.score([replace(encoded, written=(ids,))])
    [by_text] = judge.score([replace(encoded, written=(merged,))])
    assert written.rationales[0].text == by_text.rationales[0].text == "th"
    assert written.answers[0].logprob != by_text.answers[0].logprob
    rewrite(explained, lambda entry: with_first(entry, written) if entry.id == "row 1" else entry)
    assert verified(explained, capsys)[0] == 0
    code, out, _ = verified(explained, capsys, "--regenerate")
    assert (code, out.count("differs")) == (1, 1), "it was never generated"


def test_answers_without_token_ids(explained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a run of an earlier version that seems to differ, or that cannot be verified at all."""

    def without(scores: RequestScores) -> RequestScores:
        [answer] = scores.answers
        assert answer.rationale is not None
        assert answer.rationale.ids is not None
        return scores._replace(answers=(answer._replace(rationale=replace(answer.rationale, ids=None)),))

    rewrite(explained, lambda entry: entry._replace(scores=tuple(map(without, entry.scores))))
    code, out, err = verified(explained, capsys)
    assert (code, out) == (1, "")
    assert err.endswith("has rationales without token ids, from an earlier preftree; --regenerate writes them again\n")
    assert verified(explained, capsys, "--regenerate")[0] == 0


def test_an_unfinished_run(explained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches rows that are not answered yet, counted as different or asked for in vain."""
    record = json.loads((explained / "run.json").read_text())
    (explained / "run.json").write_text(json.dumps(record | {"state": "running"}))
    rewrite(explained, lambda entry: entry if entry.number in (1, 5) else None)
    code, out, _ = verified(explained, capsys)
    assert code == 0
    assert out.startswith("verified    1 of 1 answered row, 2 answers")
    rewrite(explained, lambda entry: entry if entry.number == 5 else None)
    code, _, err = verified(explained, capsys)
    assert code == 1
    assert err.endswith("has no answers to verify; `preftree status` says how far it is\n")


def test_what_cannot_be_verified(
    explained: Path, small_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches another model, another input and a damaged part that pass for answers that differ."""
    moved = shutil.copytree(small_model, tmp_path / "moved")
    assert verified(explained, capsys, "--model", str(moved))[0] == 0
    weights = moved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    verify = ["verify", str(explained), "--quiet"]
    assert cli.main([*verify, "--model", str(moved)]) == 1
    assert "out was judged by another model: scorer.model_sha256 was " in one_error(capsys)
    rows = Path(json.loads((explained / "run.json").read_text())["input"]["path"]).read_text()
    (tmp_path / "edited.jsonl").write_text(rows.replace("that 2", "that 7"))
    assert cli.main([*verify, "--input", str(tmp_path / "edited.jsonl")]) == 1
    assert "is not the file that was labelled" in one_error(capsys)
    rewrite(explained, lambda entry: entry._replace(text=7) if entry.id == "row 2" else entry)
    code, out, _ = verified(explained, capsys)
    assert (code, out.splitlines()[-1]) == (1, "differs     row 2 (line 2): its answers are about another text")
    [part] = Answers.open(explained / "answers").parts
    answers = part.path.read_bytes()
    part.path.write_bytes(answers[:99] + bytes([answers[99] ^ 1]) + answers[100:])
    assert cli.main(verify) == 1
    assert "answers about 6 rows of " in one_error(capsys)


def test_nothing_to_regenerate(runs: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an option without effect, and responses that are taken for labels."""
    plain = shutil.copytree(runs("direct"), tmp_path / "out")
    capsys.readouterr()
    assert cli.main(["verify", str(plain), "--regenerate"]) == 2
    assert one_error(capsys).endswith("out has none")
    record = json.loads((plain / "run.json").read_text())
    (plain / "run.json").write_text(json.dumps(record | {"method": {"name": "sample"}}))
    assert cli.main(["verify", str(plain)]) == 1
    assert "holds responses, not labels" in one_error(capsys)
