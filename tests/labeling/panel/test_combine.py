"""`preftree combine`: runs become a panel's run, which other commands read as any run's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preftree.labeling import cli
from preftree.labeling.calibration.temperature import fitted
from preftree.labeling.types import PairLabel
from tests.labeling.commands import one_error
from tests.labeling.fakes import row, write_rows
from tests.labeling.labelled_run import labelled_run

parquet = pytest.importorskip("pyarrow.parquet")

ROWS = 60
Runs = Callable[..., Path]


def label(p_a: float) -> PairLabel:
    return PairLabel(p_a, p_a, p_a, 0.9, 0.9, 10)


def probabilities(judge: int, rows: int = ROWS) -> list[float]:
    """Right more often than not where gold is A for even rows; on the grid of methods."""
    draws = np.random.default_rng(judge)
    logits = np.where(np.arange(rows) % 2 == 0, 1.0, -1.0) + draws.normal(0, 1 + judge / 2, rows)
    found: list[float] = (np.round(2**52 / (1 + np.exp(-logits))) / 2**52).tolist()
    return found


@pytest.fixture
def made(tmp_path: Path) -> Runs:
    """Makes a finished run of a judge."""

    def run(name: str, judge: int, rows: Sequence[dict[str, Any]] | None = None, **changes: PairLabel | None) -> Path:
        rows = rows or [row(id=f"id {n}", response_a=f"this {n}", gold="ab"[n % 2]) for n in range(ROWS)]
        labels: list[PairLabel | None] = [label(p) for p in probabilities(judge, len(rows))]
        for place, one in changes.items():
            labels[int(place.removeprefix("row"))] = one
        return labelled_run(tmp_path / name, "rlaif", rows, labels)

    return run


def combined(*arguments: str | Path) -> int:
    return cli.main(["combine", *map(str, arguments), "--quiet"])


def labels(directory: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.read_table(directory / "labels.parquet").to_pylist()
    return found


def test_without_gold_a_panel_is_the_mean(made: Runs, tmp_path: Path) -> None:
    """Catches a judge left out, a vote given to another judge, and a verdict that is not of p_a."""
    assert combined(made("one", 1), made("two", 2), "--out", tmp_path / "panel") == 0
    for found, one, two in zip(labels(tmp_path / "panel"), probabilities(1), probabilities(2), strict=True):
        assert found["p_a"] == pytest.approx((one + two) / 2, abs=1e-15)
        assert found["verdict"] == ("a" if found["p_a"] > 0.5 else "b")
        assert found["judges"] == [
            {"judge": "one", "p_a": one, "p_a_calibrated": None},
            {"judge": "two", "p_a": two, "p_a_calibrated": None},
        ]
        assert found["prompt_tokens"] == 20


def test_gold_calibrates_and_weighs(made: Runs, tmp_path: Path) -> None:
    """Catches gold of a file that is not read, and judges that go in as they are."""
    gold = write_rows(tmp_path / "gold.jsonl", [{"id": f"id {n}", "gold": "ab"[n % 2]} for n in range(40)])
    assert combined(made("one", 1), made("two", 5), "--gold", gold, "--out", tmp_path / "panel") == 0
    record = json.loads((tmp_path / "panel" / "run.json").read_text())
    one, two = record["method"]["judges"]
    mine = fitted(np.array(probabilities(1)[:40]), np.arange(40) % 2 == 0)
    assert one["slope"] == pytest.approx(mine.slope, rel=1e-9)
    assert one["weight"] + two["weight"] == pytest.approx(1)
    assert one["weight"] > two["weight"]
    assert record["panel"]["gold_pairs"] == 40
    first = labels(tmp_path / "panel")[0]["judges"][0]
    assert first["p_a_calibrated"] == mine.at(first["p_a"]) != first["p_a"]


def test_a_row_without_a_judge_has_no_label(made: Runs, tmp_path: Path) -> None:
    """Catches the mean of fewer judges given for the panel's."""
    assert combined(made("one", 1), made("two", 2, row3=None), "--out", tmp_path / "panel") == 3
    fourth = labels(tmp_path / "panel")[3]
    assert (fourth["status"], fourth["p_a"]) == ("rejected", None)
    assert "no label of judge two" in fourth["reason"]


def test_figures_are_those_of_scikit_learn(made: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a kappa, or a share of the same verdicts, that another package does not give."""
    metrics = pytest.importorskip("sklearn.metrics")
    runs = [made("one", 1, row0=label(0.5)), made("two", 2), made("three", 3)]
    assert combined(*runs, "--out", tmp_path / "panel") == 0
    assert cli.main(["report", str(tmp_path / "panel"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    said = {"one": [0.5, *probabilities(1)[1:]], "two": probabilities(2), "three": probabilities(3)}
    verdicts = {name: np.sign(np.array(p) - 0.5).astype(int) for name, p in said.items()}
    assert len(figures["between_judges"]) == 3
    for found in figures["between_judges"]:
        a, b = (verdicts[name] for name in found["judges"])
        assert found["kappa"] == pytest.approx(metrics.cohen_kappa_score(a, b), abs=1e-12)
        assert found["agreement"] == pytest.approx((a == b).mean())
    by_name = {one["name"]: one for one in figures["judges"]}
    gold = np.where(np.arange(ROWS) % 2 == 0, 1, -1)
    assert by_name["two"]["agreement"] == pytest.approx((verdicts["two"] == gold).mean())
    bits = [found["disagreement"] for found in labels(tmp_path / "panel")]
    assert figures["mean_disagreement"] == pytest.approx(np.mean(bits))


def test_other_commands_read_a_panel(made: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a panel that is a run in name alone."""
    panel = tmp_path / "panel"
    assert combined(made("one", 1), made("two", 2), "--out", panel) == 0
    out = tmp_path / "out.jsonl"
    assert cli.main(["export", str(panel), "--to", "soft", "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == ROWS
    annotated = tmp_path / "out.json"
    assert cli.main(["export", str(panel), "--to", "annotated-pairs", "--out", str(annotated)]) == 0
    assert {one["name"] for one in json.loads(annotated.read_text())["annotators"].values()} >= {"one", "two"}
    assert combined(panel, made("three", 3), "--out", tmp_path / "both") == 0
    page = tmp_path / "page.html"
    pytest.importorskip("matplotlib")
    assert cli.main(["report", str(panel), "--html", str(page)]) == 0
    assert "Cohen&#39;s kappa" in page.read_text()
    capsys.readouterr()
    assert cli.main(["show", str(panel), "id 0"]) == 0
    assert f"in their runs: {tmp_path / 'one'}" in capsys.readouterr().out
    assert cli.main(["aggregate", str(panel)]) == 1
    assert "is a panel" in one_error(capsys)


def test_files_of_the_same_rows_are_one_input(made: Runs, tmp_path: Path) -> None:
    """Catches inputs compared by their bytes: another key order, or another column, is the same pairs."""
    rows = [row(id=f"id {n}", response_a=f"this {n}", gold="ab"[n % 2]) for n in range(ROWS)]
    other = [{"note": n, **one} for n, one in enumerate(rows)]
    assert combined(made("one", 1, rows), made("two", 2, other), "--out", tmp_path / "panel") == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: [*rows[:7], {**rows[7], "response_b": "other"}, *rows[8:]], "row 8, id 7, has another text in"),
        (lambda rows: [*rows[:7], *rows[8:]], "row 8 is id 7 in"),
        (lambda rows: rows[:-1], "ends before row 60"),
        (lambda rows: [*rows, row(id="more", gold="a")], "ends before row 61"),
    ],
)
def test_other_rows_are_refused_by_name(
    made: Runs,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]],
    said: str,
) -> None:
    """Catches labels of different texts averaged, and a panel left behind that is none."""
    rows = [row(id=f"id {n}", response_a=f"this {n}", gold="ab"[n % 2]) for n in range(ROWS)]
    assert combined(made("one", 1, rows), made("two", 2, change(rows)), "--out", tmp_path / "panel") == 1
    assert said in one_error(capsys)
    assert not (tmp_path / "panel").exists()


def test_a_judge_is_not_overwritten_by_its_panel(
    made: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches labels replaced by what was made of them."""
    one, two = made("one", 1), made("two", 2)
    before = (one / "labels.parquet").read_bytes()
    assert combined(one, two, "--out", tmp_path / "two" / ".." / "one", "--overwrite") == 2
    assert "name another --out" in one_error(capsys)
    assert (one / "labels.parquet").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["one"], "one run, and a panel is made of two or more"),
        (["one", "one"], "named twice"),
        (["one", "unfinished"], "is not finished"),
        (["one", "scores"], "no column p_a"),
        (["one", "two", "--gold", "few.jsonl"], "too few to fit"),
        (["one", "two", "--gold", "strange.jsonl"], "says of no labelled pair"),
        (["one", "two", "--gold", "few.jsonl", "--weights", "equal"], "leave it out"),
        (["one", "empty"], "no such file"),
        (["one", "two", "--gold", "opposite.jsonl"], "no judge is better than a coin"),
    ],
)
def test_what_is_no_panel_is_refused_in_one_line(
    made: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    """Catches a traceback, and a panel of what is none."""
    monkeypatch.chdir(tmp_path)
    made("one", 1)
    made("two", 2)
    unfinished = made("unfinished", 3) / "run.json"
    unfinished.write_text(unfinished.read_text().replace('"complete"', '"running"'))
    scores = made("scores", 4) / "labels.parquet"
    parquet.write_table(parquet.read_table(scores).drop_columns(["p_a"]), scores)
    write_rows(Path("few.jsonl"), [{"id": f"id {n}", "gold": "a"} for n in range(3)])
    write_rows(Path("strange.jsonl"), [{"id": "nobody", "gold": "a"}])
    write_rows(Path("opposite.jsonl"), [{"id": f"id {n}", "gold": "ba"[n % 2]} for n in range(ROWS)])
    Path("empty").mkdir()
    assert combined(*arguments, "--out", "panel") in (1, 2)
    assert said in one_error(capsys)
    assert not Path("panel").exists()
