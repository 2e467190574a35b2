"""`preftree probe`: a run that resumes, a table of what moved, and a row for each probe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preftree.labeling import cli
from preftree.labeling.report.probe_tally import ProbeTally
from tests.labeling.commands import one_error
from tests.labeling.fakes import row, write_rows

parquet = pytest.importorskip("pyarrow.parquet")

CHOSEN = ("order", "key-colon", "said-twice", "command")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [f"a text of {n} words " * (n % 3 + 1) for n in range(6)]
    rows = [row(id=f"id {n}", response_a=text, response_b=text[::-1], gold="a") for n, text in enumerate(texts)]
    return write_rows(tmp_path_factory.mktemp("probing") / "in.jsonl", rows)


def probed(source: Path, model: str, out: Path, *more: str) -> int:
    chosen = [word for name in CHOSEN for word in ("--probe", name)]
    return cli.main(["probe", str(source), "--model", model, "--out", str(out), "--quiet", *chosen, *more])


@pytest.fixture(scope="module")
def finished(source: Path, small_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("probed") / "run"
    assert probed(source, small_model, out) == 0
    return out


def outcomes(directory: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet.read_table(directory / "probes.parquet").to_pylist()
    return found


def test_figures_follow_from_the_rows(finished: Path) -> None:
    """Catches a share of the wrong rows, and intervals that count a pair twice."""
    stats = pytest.importorskip("scipy.stats")
    figures = json.loads((finished / "run.json").read_text())["quality"]["probes"]
    assert [one["name"] for one in figures] == list(CHOSEN)
    rows = outcomes(finished)
    assert len(rows) == 6 * (1 + 2 * 3)
    for one in figures:
        mine = [row for row in rows if row["probe"] == one["name"]]
        shift = np.array([row["p_after"] - row["p_before"] for row in mine])
        assert [row["shift"] for row in mine] == shift.tolist()
        assert one["mean_shift"] == pytest.approx(shift.mean(), abs=1e-12)
        means = shift.reshape(6, -1).mean(axis=1)
        interval = stats.norm.interval(0.95, means.mean(), stats.sem(means))
        assert one["mean_shift_interval"] == pytest.approx(interval, abs=1e-12)
        assert one["flipped"] == pytest.approx(np.mean([row["flipped"] for row in mine]))
        lost = [row for row in mine if row["response"] and row["p_before"] < 0.5]
        won = sum(row["p_after"] > 0.5 for row in lost)
        assert (one["lost"], one["won"]) == (len(lost), won)
        if lost:
            wilson = stats.binomtest(won, len(lost)).proportion_ci(method="wilson")
            assert one["won_interval"] == pytest.approx((wilson.low, wilson.high), abs=1e-12)
        sizes = [row["shift"] if row["response"] else abs(row["shift"]) for row in mine]
        far = sorted(((size, row["id"]) for size, row in zip(sizes, mine, strict=True) if size > 0), reverse=True)
        assert [row["id"] for row in one["worst"]] == [name for _, name in far[:3]]


def test_a_run_resumes(finished: Path, source: Path, small_model: str, tmp_path: Path) -> None:
    """Catches answers that are asked for again, and other bytes after an interruption."""
    assert probed(source, small_model, tmp_path / "run", "--limit", "3") == 0
    assert probed(source, small_model, tmp_path / "run") == 0
    for name in ("labels.parquet", "probes.parquet"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["command"].startswith("preftree probe ")
    assert "--method" not in record["command"]


def test_reports_have_a_table(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a table that is not printed, or wider than a terminal beside the names."""
    assert cli.main(["report", str(finished)]) == 0
    lines = [
        line
        for line in capsys.readouterr().out.splitlines()
        if line.split()[:1] == ["probes"] or line.split()[:1][0] in CHOSEN
    ]
    assert len(lines) >= len(CHOSEN)
    assert max(map(len, lines)) <= 84
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.html"
    assert cli.main(["report", str(finished), "--html", str(page)]) == 0
    assert "<h2>Probes</h2>" in page.read_text()


def test_variants_share_their_prefix(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches variants that are asked for in prompts of their own."""
    assert cli.main(["plan", str(source), "--method", "probe", *[w for n in CHOSEN for w in ("--probe", n)]]) == 0
    found = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("sharing"))
    assert float(found["sharing"].rstrip("x")) > 3


def test_responses_without_a_rival_are_refused(
    tmp_path: Path, small_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a traceback where there is nothing to compare."""
    single = write_rows(tmp_path / "in.jsonl", [{"id": "x", "prompt": "Which?", "response": "this"}])
    assert probed(single, small_model, tmp_path / "run") == 1
    assert "method probe needs response_a and response_b" in one_error(capsys)


def test_a_tally_keeps_the_outcomes_that_moved_furthest() -> None:
    """Catches a worst row of the first batch alone, and one that moved away from the response."""
    tally = ProbeTally("injection")
    for start in (0, 10):
        rows = np.arange(10)
        after = np.array([0.3 + 0.02 * row for row in range(start, start + 10)])
        ids = [f"id {row + start}" for row in rows.tolist()]
        tally.add(rows, np.full(10, 0.4), after, (ids, ["a"] * 10))
    assert [one.id for one in tally.worst] == ["id 19", "id 18", "id 17"]
    assert (tally.pairs, tally.outcomes, tally.lost) == (20, 20, 20)
