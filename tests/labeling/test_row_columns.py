"""Columns of a row that a template shows: in prompts, in every format, in digests, and where they are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

import preftree
from preftree.engine.errors import InputError
from preftree.labeling import cli
from preftree.labeling.answers.digest import digest_of
from preftree.labeling.data.column import Column, row_of
from preftree.labeling.judge.judge import Judge
from preftree.labeling.methods.registry import columns_of, make_method
from preftree.labeling.options.methods import RlaifOptions
from preftree.labeling.options.runs import LabelOptions
from preftree.labeling.prompts.catalogue import load_template, parse_template
from preftree.labeling.runs import plan, run, show
from preftree.labeling.runs.run import run_label
from preftree.labeling.types import Message, Pair
from tests.labeling.fakes import MINE, FakeScorer, fake_scorer_factory, row, write_rows

SHOWN = '{{ row.title }} by {{ row.info.author }} in {{ row["odd \\"name"] }}'
RICH = {"title": "T {{ 7 * 7 }} <s>", "info": {"author": "A"}, 'odd "name': 7, "unused": "U"}
PROMPT = (Message("user", "Which?"),)


def user(body: str, extra: dict[str, Any]) -> str:
    template = parse_template(MINE % body, "mine.txt")
    return template.request(PROMPT, "this", "that", preamble="base", exemplars=0, row=extra).user


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.txt"
    path.write_text(MINE % "About {{ row.title }}.")
    return str(path)


@pytest.mark.parametrize("run", ["", "{% if 1 %}{% endif %}"])
def test_columns_are_shown_as_they_are(run: str) -> None:
    """Catches a text of a row that is read as Jinja, and other values where the template is run in its process."""
    assert user(SHOWN + run, RICH).endswith("T {{ 7 * 7 }} <s> by A in 7")
    assert user("{{ row.title.upper() }}{{ row.title|length }}" + run, {"title": "ab"}).endswith("AB2")
    assert user("{{ row['items'] }}" + run, {"items": True}).endswith("\ntrue"), "not the method of a dictionary"
    local = "{% for row in ['x', 'y'] %}{{ row }}{% endfor %}"
    assert user(local + run, {}).endswith("xy"), "a template's own variable"


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({}, "missing column: row.title, which template mine.txt shows, is not there or null"),
        ({"title": None}, "missing column: row.title, "),
        ({"title": {"a": 1}}, "wrong type: row.title, which template mine.txt shows, must be a text or a number, "),
        ({"title": ["a"]}, "wrong type: row.title, "),
    ],
)  # fmt: skip
def test_rows_without_their_column(extra: dict[str, Any], reason: str) -> None:
    """Catches "None" or a Python list in a prompt."""
    with pytest.raises(InputError) as caught:
        user("{{ row.title }}", extra)
    assert str(caught.value).startswith(reason)


def test_a_column_and_a_field_in_it() -> None:
    """Catches a traceback for a template that no row can fill."""
    info, author = Column(("info",)), Column(("info", "author"))
    assert row_of({info: "x", author: "y"}) == row_of({author: "y", info: "x"}) == {"info": "x"}


def test_runs_reject_and_label(tmp_path: Path, mine: str) -> None:
    """Catches a run that one bad row ends, and answers that are taken for those of another text at the end."""
    rows = [row(id=n, title=f"t{n}", note="x") for n in ("a", "b")] + [row(id="c"), row(id="d", title="d")]
    source, out, scorer = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out", FakeScorer()
    options = LabelOptions(input=str(source), out=str(out), quiet=True, template=mine)
    summary = run_label(options, fake_scorer_factory(scorer))
    assert (summary.ok, summary.rejections.count, scorer.calls) == (3, 1, [6])
    table = parquet.read_table(out / "labels.parquet").to_pylist()
    assert "missing column: row.title, which template" in table[2]["reason"]


def test_digests_cover_what_is_shown() -> None:
    """Catches labels of another title that are taken for this one's, and labels judged again for what nobody shows."""
    method = make_method("rlaif", RlaifOptions(template="summarization-tldr"))
    title = Column(("title",))
    assert set(columns_of(method)) == {title, Column(("subreddit",))}
    pair, other = (Pair("x", PROMPT, "this", "that", extra={"title": text, "n": text}) for text in "ab")
    assert digest_of(pair) == digest_of(other) == digest_of(Pair("x", PROMPT, "this", "that")) == DIGEST
    digests = {
        digest_of(one, [title]) for one in (pair, other, pair._replace(extra={}), pair._replace(extra={"title": ""}))
    }
    assert len(digests | {DIGEST}) == 5


DIGEST = -8478577897394565971  # recorded before templates could show columns


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_every_format_has_columns(
    tmp_path: Path, mine: str, ending: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a format whose columns no template sees, in plans, in runs or in what `show` makes again."""
    import pyarrow as pa
    from pyarrow import csv

    for module in (plan, run, show):
        monkeypatch.setattr(module, "load_judge", lambda options, weights=True: FakeScorer())
    path, rows = tmp_path / f"in.{ending}", [row(id="one", title="Tea")]
    if ending == "jsonl":
        write_rows(path, rows)
    else:
        table = pa.Table.from_pylist(rows)
        csv.write_csv(table, path) if ending == "csv" else parquet.write_table(table, path)
    assert cli.main(["plan", str(path), "--template", mine, "--quiet"]) == 0
    assert "About Tea." in capsys.readouterr().out
    out = str(tmp_path / "out")
    assert cli.main(["label", str(path), "--out", out, "--template", mine, "--quiet"]) == 0
    Path(mine).write_text(MINE % "Changed since, {{ row.other }}.")
    assert cli.main(["show", out, "one"]) == 0
    assert capsys.readouterr().out.count("About Tea.") == 2


def test_comparisons_of_tldr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches fields of the paper's prompt that are not filled, and columns that labels did not have before."""
    info = {"id": "t3", "post": "It is long.", "title": "A cat", "subreddit": "cats"}
    good = {"info": info, "summaries": [{"text": "short"}, {"text": "shorter"}], "choice": 1}
    news = good | {"info": {"id": "n", "article": "It is news."}}
    source, out = write_rows(tmp_path / "in.jsonl", [good, news]), tmp_path / "out"
    monkeypatch.setattr(plan, "load_judge", lambda options, weights=True: FakeScorer())
    assert cli.main(["plan", str(source), "--template", "summarization-tldr", "--quiet"]) == 0
    planned = capsys.readouterr().out
    assert "SUBREDDIT: r/cats\nTITLE: A cat\nTEXT: It is long.\n\n### Summaries\nSummary 1: short" in planned
    assert "missing column" in planned
    run_label(LabelOptions(input=str(source), out=str(out), quiet=True), fake_scorer_factory())
    labels = parquet.read_table(out / "labels.parquet")
    assert not {"title", "subreddit"} & {*labels.column_names}
    assert labels["status"].to_pylist() == ["ok", "ok"]


def test_labels_of_rows_in_memory(small_model: str) -> None:
    """Catches columns of dictionaries or of samples that Python holds and no template sees."""
    judge = Judge.load(small_model, device="cpu")
    about = {"subreddit": "cats", "title": "A cat"}
    prompt = "It is long."
    pairs = [Pair("x", prompt, "this", "that", extra=about), Pair("y", prompt, "this", "that")]  # type: ignore[arg-type]
    found = preftree.label(pairs, judge, template="summarization-tldr")
    assert [one.label is not None for one in found] == [True, False]
    assert found[1].reason is not None
    assert found[1].reason.startswith("missing column: row.subreddit, which template summarization-tldr shows")
    same = preftree.label([row(id="x", prompt=prompt, **about)], judge, template="summarization-tldr")
    other = preftree.label(
        [row(id="x", prompt=prompt, **about | {"title": "A dog"})], judge, template="summarization-tldr"
    )
    assert same[0].label == found[0].label
    assert other[0].label != found[0].label


def test_no_model_is_loaded_where_no_row_has_the_column(tmp_path: Path, mine: str) -> None:
    """Catches minutes of loading for a template whose column is misspelled."""

    def not_loaded(options: Any, weights: bool = True) -> Any:
        assert not weights, "the model was loaded"
        return FakeScorer()

    source = write_rows(tmp_path / "in.jsonl", [row(id="x"), row(id="y")])
    with pytest.raises(InputError, match="missing column"):
        run_label(LabelOptions(input=str(source), out=str(tmp_path / "out"), quiet=True, template=mine), not_loaded)


def test_records_hold_the_template(tmp_path: Path) -> None:
    """Catches a run that asks otherwise than it records."""
    template = load_template("summarization-tldr")
    again = parse_template(json.loads(json.dumps(template.record()))["source"], template.name)
    about = {"subreddit": "cats", "title": "A cat"}
    one, other = (t.request(PROMPT, "x", "y", preamble="base", exemplars=2, row=about) for t in (template, again))
    assert one == other
