"""Files of labels without the columns of other kinds of rows: what reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from preftree.labeling import cli
from preftree.labeling.report.figures import figures_of
from preftree.labeling.runs import run, show
from preftree.labeling.types import PairLabel
from tests.labeling.commands import one_error
from tests.labeling.fake_engine import FakeEngine, fake_scorer
from tests.labeling.fakes import row, write_rows
from tests.labeling.labelled_run import labelled_run
from tests.models import SMALL_CONFIG, write_model

parquet = pytest.importorskip("pyarrow.parquet")

PAIRS = [row(id="1", gold="a"), row(id="2", response_a="Here.", gold="b")]
SINGLES = [{"id": "1", "prompt": "Which?", "response": "this"}, {"id": "2", "prompt": "Which?", "response": "that"}]
COMMANDS = {
    "direct": ("label", "--method", "direct"),
    "cot": ("label", "--method", "direct", "--cot", "--max-rationale-tokens", "4"),
    "rubric": ("label", "--method", "rubric"),
    "score": ("score", "--under", "concise", "--under", "honest"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("models") / "small", SMALL_CONFIG))


@pytest.mark.parametrize("rows", [PAIRS, SINGLES], ids=["pairs", "responses"])
@pytest.mark.parametrize("name", COMMANDS)
def test_readers(
    name: str,
    rows: list[dict[str, str]],
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches a command that looks for a column of other rows, or takes one of the input for it."""
    engine = FakeEngine()
    for module in (run, show):
        monkeypatch.setattr(
            module, "load_judge", lambda options, weights=True: fake_scorer(model, engine, options.batch_tokens)
        )
    rubric = tmp_path / "rubric.json"
    rubric.write_text(json.dumps([{"name": "kind", "criterion": "Is it kind?"}]))
    verb, *options = COMMANDS[name]
    options += ["--rubric", str(rubric)] if name == "rubric" else []
    source, out = (
        write_rows(tmp_path / "rows.jsonl", [{**one, "score": 7, "reward": 3} for one in rows]),
        tmp_path / "x",
    )
    assert cli.main([verb, str(source), "--out", str(out), "--quiet", *options]) == 0
    table = parquet.read_table(out / "labels.parquet")
    assert [one for one in table.schema.names if table.column(one).null_count == len(rows)] == ["reason"]

    assert cli.main(["show", str(out), "1"]) == 0
    asked = {"pairs": 4 if name == "score" else 2, "responses": 2 if name == "score" else 1}
    of_pairs = rows is PAIRS
    assert capsys.readouterr().out.count("---- answer, ") == asked["pairs" if of_pairs else "responses"]
    assert cli.main(["report", str(out), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    if name == "score":
        assert [one["pairs" if of_pairs else "responses"] is None for one in figures["sets"]] == [False, False]
        assert [one["responses" if of_pairs else "pairs"] for one in figures["sets"]] == [None, None]
    else:
        assert figures["responses"] == len(rows) * (1 + of_pairs)
        assert (figures["pairs"], figures["gold_pairs"]) == ((2, 2) if of_pairs else (0, 0))
    assert cli.main(["report", str(out), "--html", str(tmp_path / "page.html")]) == 0
    assert cli.main(["show", str(out)]) == 0
    capsys.readouterr()
    exported = cli.main(["export", str(out), "--to", "trl-dpo", "--out", str(tmp_path / "y.jsonl")])
    if of_pairs:
        assert exported == 0
    else:
        assert exported == 1
        assert "2 pairs: nothing compared: a single response" in one_error(capsys)


def test_rewards_in_the_input(tmp_path: Path) -> None:
    """Catches labels of a judge that are taken for rewards, since the input has columns of a reward model's labels."""
    rows = [{**one, "reward": 0.5, "normalized_reward": 1.5} for one in PAIRS]
    out = labelled_run(tmp_path / "run", "rlaif", rows, [PairLabel(0.7, 0.8, 0.6, 0.9, 0.9, 1)] * len(rows))
    figures = figures_of(out / "labels.parquet").figures()
    assert figures["consistent"] == 1.0
    assert "mean_reward" not in figures
