"""What people look at: `preftree plan`, `templates` and `show`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from preftree.labeling import cli
from preftree.labeling.runs import show
from tests.labeling.commands import one_error, preftree
from tests.labeling.fakes import MINE, FakeScorer, open_fake_method, row, write_rows

parquet = pytest.importorskip("pyarrow.parquet")


def test_a_terminal_without_unicode(pairs: Path, tmp_path: Path) -> None:
    """Catches UnicodeEncodeError where the locale is plain ASCII."""
    done = preftree("label", tmp_path / "é.jsonl", "--out", "x", own={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1
    assert "\\xe9.jsonl" in done.stderr


# templates and direct scores


def test_plan_and_show_of_direct_scores(small_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a sample of one prompt that is counted as two, and an answer shown under the other response's prompt."""
    single = row(id="one", response="the only", response_a=None, response_b=None)
    source = write_rows(tmp_path / "in.jsonl", [single, row(id="two")])
    asked = [str(source), "--model", small_model, "--method", "direct", "--scale", "1-5"]
    assert cli.main(["plan", *asked]) == 0
    text = capsys.readouterr().out
    for part in ("rows           2\n", "prompts        3, 1 to 2 a row", '"5" = [', "first prompt: one, the response"):
        assert part in text
    assert '"6" = [' not in text
    out = str(tmp_path / "out")
    assert cli.main(["label", *asked, "--out", out]) == 0
    assert "nats; 1.609 where all 5 are equally probable" in " ".join(capsys.readouterr().out.split())
    rows = {entry["id"]: entry for entry in parquet.read_table(tmp_path / "out" / "labels.parquet").to_pylist()}
    assert cli.main(["show", out, "two"]) == 0
    text = capsys.readouterr().out
    places = [text.index(part) for part in ("this", "answer, response A: score ", "that", "answer, response B: score ")]
    assert places == sorted(places)
    assert f"answer, response B: score {rows['two']['score_b']:.6f}" in text
    assert cli.main(["show", out, "one"]) == 0
    assert f"answer, the response: score {rows['one']['score']:.6f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "direct", "--scale", "5-1"], "preftree: --scale 5-1 runs downwards; write 1-5"),
        (["--method", "direct", "--template", "general"], "preftree: template general compares two responses; method"),
        (["--method", "direct", "--exemplars", "9"], "preftree: direct:13: it has 2 exemplars, 9 were asked for"),
        (["--template", "direct"], "preftree: template direct shows one response; method rlaif compares two"),
    ],
)
def test_what_cannot_be_asked_is_found_before_the_model_is_loaded(
    options: list[str], said: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches minutes of loading before a typing error is found."""
    command = ["label", str(pairs), "--model", str(tmp_path / "no such model"), "--out", str(tmp_path / "out")]
    assert cli.main([*command, *options]) == (1 if "--exemplars" in options else 2)
    assert one_error(capsys).startswith(said)
    assert not (tmp_path / "out").exists()


def test_templates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a mistake in a file of one's own that ends in a traceback, and a table on stderr."""
    assert cli.main(["templates"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("name ")
    assert "\nsummarization " in captured.out
    assert captured.err == ""
    assert cli.main(["templates", "general"]) == 0
    assert capsys.readouterr().out.endswith("### Which response is better, 1 or 2?\n")
    mine = tmp_path / "mine.txt"
    mine.write_text(MINE.replace("labels: [", "labels: ") % "")
    assert cli.main(["templates", str(mine)]) == 1
    assert one_error(capsys).startswith(f"preftree: {mine}:3: front matter is not YAML")
    assert cli.main(["templates", "nosuch"]) == 1
    assert "is neither a file nor one of: " in one_error(capsys)
    assert cli.main(["templates", "general", "direct"]) == 2


# show


@pytest.fixture
def labelled(scorer: FakeScorer, pairs: Path, tmp_path: Path) -> Path:
    assert cli.main(["label", str(pairs), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    return tmp_path / "out"


def test_show(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an order shown with the other's answer, and a row or a column left out."""
    [one, _] = parquet.read_table(labelled / "labels.parquet").to_pylist()
    assert cli.main(["show", str(labelled), "one"]) == 0
    text = capsys.readouterr().out
    for name, value in one.items():
        if value is not None:
            assert f"{name} " in text
            assert (json.dumps(value) if isinstance(value, bool) else str(value)) in text
    asked_first, asked_second = text.index("<|user|>Which?|this|that"), text.index("<|user|>Which?|that|this")
    answer_first = text.index(f"answer, A first: A is better with p {one['p_a_first']:.6f}, label mass 0.900000")
    answer_second = text.index(f"answer, B first: A is better with p {one['p_a_second']:.6f}, label mass 0.900000")
    assert asked_first < answer_first < asked_second < answer_second


def test_show_uses_the_recorded_template(labelled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a prompt shown as today's template would ask it."""
    sources = []

    def remember(options: Any, recorded: Any = None) -> Any:
        sources.append(recorded["template"]["source"])
        return open_fake_method(options, recorded)

    monkeypatch.setattr(show, "open_method", remember)
    assert cli.main(["show", str(labelled), "one"]) == 0
    assert sources == ["fake template, {{ prompt }}"]


def test_show_of_a_rejected_row(scorer: FakeScorer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a crash on nulls, and a duplicate's rejection that hides the label of the first row."""
    source = write_rows(tmp_path / "in.jsonl", [row(id="r", prompt=""), row(id="d"), row(id="d")])
    assert cli.main(["label", str(source), "--out", str(tmp_path / "out"), "--quiet"]) == 3
    assert cli.main(["show", str(tmp_path / "out"), "r"]) == 0
    text = capsys.readouterr().out
    assert "blank text: prompt" in text
    assert "answer" not in text
    assert cli.main(["show", str(tmp_path / "out"), "d"]) == 0
    text = capsys.readouterr().out
    assert "duplicate id" in text
    assert "answer, B first" in text


def test_show_what_is_not_there(labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches tracebacks for a wrong id, a wrong directory and broken files."""
    assert cli.main(["show", str(labelled), "three"]) == 1
    assert "no row with id three" in one_error(capsys)
    assert cli.main(["show", str(tmp_path), "one"]) == 1
    assert "no such file" in one_error(capsys)
    (labelled / "labels.parquet").write_bytes(b"PAR1 not")
    assert cli.main(["show", str(labelled), "one"]) == 1
    assert "cannot read" in one_error(capsys)
    (labelled / "labels.parquet").unlink()
    assert cli.main(["show", str(labelled), "one"]) == 1
    assert "no such file" in one_error(capsys)
    for text in ("{", "[]", "{}"):
        (labelled / "run.json").write_text(text)
        assert cli.main(["show", str(labelled), "one"]) == 1
        assert "is no record of a run" in one_error(capsys)


def test_show_when_the_input_is_elsewhere(
    labelled: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches prompts made from another file's texts, and labels withheld because texts are gone."""
    moved = pairs.rename(tmp_path / "moved.jsonl")
    assert cli.main(["show", str(labelled), "one"]) == 0
    text = capsys.readouterr().out
    assert "verdict" in text
    assert "the prompts cannot be shown: no such file" in text
    assert cli.main(["show", str(labelled), "one", "--input", str(moved)]) == 0
    assert "answer, B first" in capsys.readouterr().out
    write_rows(moved, [row(id="one", response_a="edited"), row(id="two")])
    assert cli.main(["show", str(labelled), "one", "--input", str(moved)]) == 0
    text = capsys.readouterr().out
    assert "is not the file that was labelled" in text
    assert "edited" not in text


def test_show_when_the_model_has_changed(
    labelled: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches prompts rendered by another tokenizer or chat template passed off as those that were asked."""

    class Other(FakeScorer):
        def encode(self, request: Any) -> Any:
            encoded = super().encode(request)
            encoded.ids.append(0)
            return encoded

    monkeypatch.setattr(show, "load_judge", lambda options, weights=True: Other())
    assert cli.main(["show", str(labelled), "one"]) == 0
    assert "the prompts cannot be shown: model embedded makes" in capsys.readouterr().out
