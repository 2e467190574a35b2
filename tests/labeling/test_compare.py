"""`preftree compare`: judges side by side on rows with gold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from preftree.engine.errors import InputError, ModelError
from preftree.labeling import cli
from preftree.labeling.comparing import compare
from preftree.labeling.methods.registry import open_method
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.prompts.catalogue import TEMPLATE_DIRECTORY
from preftree.labeling.runs import run
from preftree.labeling.types import ScoreRequest
from tests.labeling.commands import one_error, unwrapped
from tests.labeling.fakes import MINE, FakeEncoded, FakeScorer, row, write_rows

FOUR = ("--template", "general", "--template", "helpfulness", "--preamble", "base", "--preamble", "detailed")


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    """30 rows, 20 of them with a gold of a or b."""
    golds = ("a", "b", None, "b", "a", "tie") * 5
    rows = [row(id=f"r{i}", response_a=f"NUMBER {i}.", gold=one) for i, one in enumerate(golds)]
    return write_rows(tmp_path / "in.jsonl", rows)


class Picky(FakeScorer):
    """Has room for none of some pairs."""

    def __init__(self, left_out: str) -> None:
        super().__init__()
        self._left_out = left_out

    def encode(self, request: ScoreRequest) -> FakeEncoded:
        if self._left_out in request.user:
            raise InputError("too long: the prompt has 9,000 tokens")
        return super().encode(request)


@pytest.fixture
def judge(scorer: FakeScorer, monkeypatch: pytest.MonkeyPatch) -> FakeScorer:
    """What every model is; "missing" does not load, "picky" leaves out a pair and "useless" all."""
    others = {"picky": Picky("NUMBER 7"), "useless": Picky("NUMBER")}

    def load(options: LabelOptions, weights: bool = True) -> FakeScorer:
        if options.model == "missing":
            raise ModelError("missing: no such model")
        return others.get(options.model, scorer)

    for module in (run, compare):
        monkeypatch.setattr(module, "load_judge", load)
    return scorer


def rows_of(out: Path, kind: str) -> list[dict[str, Any]]:
    table = parquet.read_table(out / "comparison.parquet")
    return [one for one in table.to_pylist() if one["kind"] == kind]


def test_each_combination_says_what_a_run_of_it_says(
    judge: FakeScorer, gold: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches answers that go to another combination, pairs in another order, and figures of rows without gold."""
    out = tmp_path / "out"
    assert cli.main(["compare", str(gold), *FOUR, "--out", str(out)]) == 0
    found = rows_of(out, "combination")
    assert len(found) == 4
    assert [one["agreement"] for one in found] == sorted((one["agreement"] for one in found), reverse=True)
    assert sum(one["best_share"] for one in found) == pytest.approx(1)
    said = {(one["template"], one["preamble"], one["id"]): one["p_a"] for one in rows_of(out, "pair")}
    for one in found:
        options = LabelOptions(
            input=(str(gold),),
            template=one["template"],
            preamble=one["preamble"],
            out=str(tmp_path / f"run-{one['rank']}"),
            quiet=True,
        )
        alone = run.run_label(options, method_factory=open_method)
        assert alone.quality is not None
        labels = parquet.read_table(alone.labels).to_pylist()
        assert len(labels) == 30
        for label in labels:
            key = (one["template"], one["preamble"], label["id"])
            assert said.get(key) == (label["p_a"] if label["gold"] in ("a", "b") else None)
        figures = alone.quality.figures()
        assert one["pairs"] == 20
        assert one["agreement"] == figures["agreement"]
        assert one["brier"] == figures["calibration"]["brier"]
        assert one["expected_calibration_error"] == figures["calibration"]["expected_calibration_error"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "4 combinations on 20 gold pairs" in printed
    assert "not run: 10 rows without a gold of a or b" in printed
    assert "20 gold pairs are too few to tell it from 3 of the 3 others." in " ".join(printed.split())
    assert "The best may be no better than chance" in printed


def test_it_resumes_and_changes_no_bit(
    judge: FakeScorer, gold: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches rows that are judged again, and draws that are others the second time."""
    out, page = tmp_path / "out", tmp_path / "page.html"
    command = ["compare", str(gold), *FOUR, "--out", str(out)]
    assert cli.main([*command, "--limit", "12"]) == 0
    assert sum(judge.calls) == 8 * 8
    command += ["--html", str(page)]
    assert cli.main(command) == 0
    assert sum(judge.calls) == 20 * 8
    capsys.readouterr()
    before = (out / "comparison.parquet").read_bytes()
    assert cli.main(command) == 0
    assert sum(judge.calls) == 20 * 8
    assert (out / "comparison.parquet").read_bytes() == before
    capsys.readouterr()
    assert cli.main([*command, "--exemplars", "1"]) == 1
    assert "holds another run: method." in one_error(capsys)


def test_a_model_that_does_not_load_leaves_the_others(
    judge: FakeScorer, gold: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches results that are lost with the first bad path of a long command, or a failure that no script sees."""
    out = tmp_path / "out"
    models = ["--model", "./a/fake", "--model", "missing", "--model", "./b/fake"]
    assert cli.main(["compare", str(gold), *models, "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert "preftree: missing is left out: missing: no such model" in captured.err
    assert "left out: model missing: missing: no such model" in unwrapped(captured.out)
    assert [one["model"] for one in rows_of(out, "combination")] == ["./a/fake", "./b/fake"]
    assert len([path for path in out.iterdir() if path.name.startswith("fake-")]) == 2
    assert cli.main(["compare", str(gold), "--model", "missing", "--out", str(tmp_path / "none"), "--quiet"]) == 1
    assert one_error(capsys) == "preftree: missing: no such model"
    assert not (tmp_path / "none").exists()


def test_all_are_compared_on_the_same_pairs(
    judge: FakeScorer, gold: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a model that looks better because it left out the hard pairs, or one without a label that ends it all."""
    out = tmp_path / "out"
    models = ["--model", "fake", "--model", "picky", "--model", "useless"]
    assert cli.main(["compare", str(gold), *models, "--out", str(out)]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 combinations on 19 gold pairs" in printed
    assert "not compared: 1 row rejected with picky: too long" in printed
    assert "left out: model useless: no pair could be judged with useless: too long (20)" in printed
    assert {one["pairs"] for one in rows_of(out, "combination")} == {19}
    pairs = rows_of(out, "pair")
    fake, picky = ({one["id"]: one["p_a"] for one in pairs if one["model"] == name} for name in ("fake", "picky"))
    assert fake == picky
    assert "r7" not in fake


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--template", "direct"], "template direct shows one response; method rlaif compares two"),
        (["--template", "general", "--template", "general"], "--template general is named twice"),
        (["--model", "x", "--model", "x"], "--model x is named twice"),
        (["--exemplars", "1", "--exemplars", "1"], "--exemplars 1 is named twice"),
        (["--template", "general", "--template", "copy.txt"], "asks the same as rlaif general detailed 0"),
        (["--template", "mine.txt", "--preamble", "base", "--preamble", "detailed"], "asks the same as rlaif mine.txt"),
        (["--exemplars", "0", "--exemplars", "99"], "99 were asked for"),
        (["-"], "name a file instead of -"),
        (["--principles", "default"], "it is for salmon"),
        (["--method", "ranking"], "--method"),
        (["--template", "nowhere.txt"], "neither a file nor one of"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    judge: FakeScorer,
    gold: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    said: str,
) -> None:
    """Catches a traceback, a model that is loaded first, and a combination that counts twice."""
    monkeypatch.chdir(tmp_path)
    Path("copy.txt").write_text((TEMPLATE_DIRECTORY / "general.txt").read_text())
    Path("mine.txt").write_text(MINE % "")
    assert cli.main(["compare", str(gold), *options, "--out", "out"]) in (1, 2)
    assert said in one_error(capsys)
    assert not judge.calls
    assert not Path("out").exists()


@pytest.mark.parametrize(("verdict", "said"), [(None, "has no gold to compare with; add"), ("tie", "no gold (2)")])
def test_no_gold_is_one_line(
    judge: FakeScorer, tmp_path: Path, capsys: pytest.CaptureFixture[str], verdict: str | None, said: str
) -> None:
    """Catches a division by the number of gold pairs, or hours of judging that no figure comes of."""
    rows = write_rows(tmp_path / "in.jsonl", [row(id="1", gold=verdict), row(id="2", gold=verdict)])
    assert cli.main(["compare", str(rows), "--out", str(tmp_path / "out")]) == 1
    assert said in one_error(capsys)
    assert not judge.calls


def test_one_combination_works(
    judge: FakeScorer, gold: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a best that is compared with itself."""
    assert cli.main(["compare", str(gold), "--out", str(tmp_path / "out"), "--html", str(tmp_path / "p.html")]) == 0
    assert "there is nothing to compare it with" in capsys.readouterr().out
    assert rows_of(tmp_path / "out", "combination")[0]["behind"] is None


def test_methods_of_several_kinds(
    judge: FakeScorer, gold: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches templates that are asked of a method that they are not for, and figures that a method does not have."""
    out = tmp_path / "out"
    methods = [part for name in ("rlaif", "direct", "salmon") for part in ("--method", name)]
    templates = [part for name in ("general", "direct-yes-no", "salmon") for part in ("--template", name)]
    assert cli.main(["compare", str(gold), *methods, *templates, "--out", str(out)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    found = {(one["method"], one["template"]): one for one in rows_of(out, "combination")}
    assert found.keys() >= {("rlaif", "general"), ("direct", "direct-yes-no"), ("salmon", "salmon")}
    assert ("rlaif", "direct-yes-no") not in found
    assert "left out: rlaif direct-yes-no detailed 0: template direct-yes-no shows one response" in printed
    assert found["direct", "direct-yes-no"]["brier"] is None
    assert found["direct", "direct-yes-no"]["agreement"] > 0
    assert found["salmon", "salmon"]["brier"] > 0


def test_the_run_of_a_model_is_a_run(
    judge: FakeScorer,
    gold: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches a directory that status, report and show cannot read."""
    from preftree.labeling.runs import job, show

    out = tmp_path / "out"
    assert cli.main(["compare", str(gold), *FOUR, "--model", "m", "--out", str(out)]) == 0
    for module in (job, show):
        monkeypatch.setattr(module, "open_method", open_method)
    for command in ("status", "report", "show"):
        capsys.readouterr()
        assert cli.main([command, str(out / "m"), *(["r1"] if command == "show" else [])]) == 0
        assert "rlaif helpfulness base 0" in capsys.readouterr().out


def test_the_table_fits_and_the_page_is_safe(
    judge: FakeScorer, gold: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a table that a terminal breaks, and a file name that becomes markup."""
    page = tmp_path / "page.html"
    mine = tmp_path / "<b>a-template-whose-name-is-longer-than-any-column-of-a-table.txt"
    mine.write_text(MINE % "")
    command = ["compare", str(gold), "--template", "general", "--template", str(mine), "--out", str(tmp_path / "out")]
    assert cli.main([*command, "--html", str(page)]) == 0
    table = capsys.readouterr().out.partition("\nfiles")[0]
    assert max(map(len, table.splitlines())) <= 80
    text = page.read_text()
    assert "<b>a-template" not in text
    assert "&lt;b&gt;a-template" in text
    for head in ("agreement (95% interval)", "Brier score", "How far behind the best", "unique tokens"):
        assert head in text
