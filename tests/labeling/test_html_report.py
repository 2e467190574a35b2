"""The report as a page: what it shows of each kind of labels, that data stays text, that it needs nothing else."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from preftree.labeling import cli
from preftree.labeling.methods.principle_labels import Aggregate, PrincipleScore, SalmonLabel
from preftree.labeling.methods.ranking_labels import RankingLabel
from preftree.labeling.methods.score_labels import DirectLabel, Score
from preftree.labeling.methods.set_labels import SetsLabel
from preftree.labeling.options.reading import ReportOptions
from preftree.labeling.rationales import Rationale
from preftree.labeling.report.html.survey import Survey
from preftree.labeling.report.html.svg import drawing, svg_of
from preftree.labeling.runs.report import write_html
from preftree.labeling.types import Label, PairLabel
from tests.labeling.commands import one_error
from tests.labeling.fakes import row
from tests.labeling.html_page import HtmlPage
from tests.labeling.labelled_run import labelled_run

HOSTILE = (
    "<script>alert(1)</script> \"><img src=x onerror=alert(1)> ' & {{ 99*991 }} </pre> </svg> $x^2$ \x1b[31m \u202e"
)


def soft(first: float, second: float, mass: float = 0.9) -> PairLabel:
    return PairLabel((first + second) / 2, first, second, mass, mass, 10)


def pairs_run(directory: Path, labels: Sequence[Label | None], **cells: Any) -> Path:
    """Labels of method rlaif on rows whose gold is A, the last of another kind than the others."""
    rows = [
        row(id=f"row {k}", gold="a", response_a="" if one is None else f"this {k}", kind="essay", **cells)
        for k, one in enumerate(labels)
    ]
    rows[-1]["kind"] = "poem"
    return labelled_run(directory, "rlaif", rows, labels)


def page_of(run: Path, **options: Any) -> HtmlPage:
    out = run.with_name(f"{run.name}.html")
    write_html(ReportOptions(labels=str(run), html=str(out), overwrite=True, **options), out)
    return HtmlPage(out.read_text(encoding="utf-8"))


def test_a_page_of_pairs_has_its_sections(tmp_path: Path) -> None:
    labels = [soft(0.9, 0.7), soft(0.9, 0.2), None, soft(0.1, 0.3)]
    page = page_of(pairs_run(tmp_path / "run", labels), subset="kind")
    titles = ["What was run", "Agreement with gold", "Calibration", "Probabilities", "Position bias", "Label mass"]
    titles += ["Length bias", "Win rate", "By kind", "Rows worth reading"]
    assert [text for text in page.headings if text in titles] == titles
    assert "Report on 3 labelled rows" in page.text
    # One of three judgements prefers the first position in both orders; of two consistent rows one agrees with gold.
    assert page.cells("all") == ["3", "33.3%", "66.7%", "0.0%"]
    assert page.cells("both orders prefer the same response")[0] == "2"
    assert page.cells("poem") == ["1", "0.0% (0.0% to 79.3%)"]
    assert page.cells("verdicts for the longer response")[0].startswith("66.7%")
    drawn = [value.split(":")[0] for value in page.values("aria-label")]
    assert drawn.count("Reliability diagram") == 1
    assert drawn.count("Shares with 95% intervals") == 4  # of gold, of longer responses, of wins, and by kind
    assert page.cells("all pairs") == ["3", "66.7% (20.8% to 93.9%)", "51.7%", "no adjustment possible"]


def test_sections_without_columns_are_left_out(tmp_path: Path) -> None:
    page = page_of(labelled_run(tmp_path / "run", "rlaif", [row()], [soft(0.9, 0.7)]))
    assert not {"Agreement with gold", "Calibration", "Length bias", "Principles", "Scores", "Ranking"} & {
        *page.headings
    }
    assert "Position bias" in page.headings


def test_texts_from_data_do_nothing(tmp_path: Path) -> None:
    """Catches a text that is not escaped: of ids, prompts, responses, rationales, subsets, principles or run.json."""
    written = (Rationale(HOSTILE, 3, True),)
    label = PairLabel(0.2, 0.9, 0.1, 0.9, 0.9, 10, written, written)
    cells = {"id": HOSTILE, "prompt": HOSTILE, "response_a": HOSTILE, "response_b": HOSTILE + "b", HOSTILE: HOSTILE}
    run = rationales_run(tmp_path / "run", row(gold="a", **cells), label)
    record = json.loads((run / "run.json").read_bytes())
    (run / "run.json").write_text(json.dumps(record | {"versions": {HOSTILE: HOSTILE}, "scorer": {"model": HOSTILE}}))
    page = page_of(run, subset=HOSTILE)
    assert not {"script", "img", "iframe", "link", "object", "form", "a", "base"} & {tag for tag, _ in page.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    shown = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert page.text.count(shown) >= 6  # id, prompt, two responses and two rationales
    assert "98109" not in page.text


def rationales_run(directory: Path, cells: dict[str, Any], label: PairLabel) -> Path:
    """With the columns that labels after rationales have."""
    columns = {**PairLabel.COLUMNS}
    for end in ("_first", "_second"):
        columns |= {f"rationale{end}": "string", f"rationale_tokens{end}": "int64", f"rationale_cut{end}": "bool"}
    return labelled_run(directory, "rlaif", [cells], [_WithColumns(label, columns)])


class _WithColumns:
    """A label whose method has more columns than its class names."""

    def __init__(self, label: PairLabel, columns: dict[str, Any]) -> None:
        type(self).COLUMNS = columns
        self.prompt_tokens = label.prompt_tokens
        self.values = label.values

    COLUMNS: dict[str, Any]


def test_names_of_principles_are_text_in_plots(tmp_path: Path) -> None:
    """Catches mathematics between dollar signs, which matplotlib fails on, and markup in labels of axes."""
    names = ["<script>x</script>", "$\\frac{", "& id=\"y\" 'z'"]
    scores = np.array([[1.5, 0.0, 0.25], [1.0, 1.25, -1.0], [0.05, 1.5, 1.0], [-2.0, 0.5, 0.75]])
    labels = [
        SalmonLabel(Aggregate(0.0, 0.5), tuple(map(of_principle, names, of_row)), 1) for of_row in scores.tolist()
    ]
    rows = [row(id=f"row {k}", gold="a") for k in range(len(labels))]
    page = page_of(labelled_run(tmp_path / "salmon", "salmon", rows, labels))
    assert {*page.headings} >= {"Principles", "Position bias", "Probabilities"}
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.cells(names[2])  # of the last table, that of a row worth reading
    assert page.texts.count(names[2]) >= 5  # two tables, the axis of bars, both axes of the heat map
    of_pairs = np.corrcoef(scores.T)[[0, 0, 1], [1, 2, 2]]
    for correlation in of_pairs:
        assert page.texts.count(f"{correlation:.2f}") == 2


def of_principle(name: str, score: float) -> PrincipleScore:
    return PrincipleScore(name, score + 0.5, score - 0.5, 0.9, 0.9)


def test_other_kinds_of_labels(tmp_path: Path) -> None:
    score = Score(5.0, 0.25, 5.0, 1.5, 0.9, (1.0,))
    direct = labelled_run(tmp_path / "direct", "direct", [row(gold="b")], [DirectLabel((score, score), 1)])
    assert {"Agreement with gold", "Scores", "Label mass"} <= {*(page := page_of(direct)).headings}
    assert "Position bias" not in page.headings
    assert page.cells("all pairs") == ["1", "50.0% (5.5% to 94.5%)", "–", "no adjustment possible"]
    assert page.cells("rewards of B above 0 (harmless rate)") == ["100.0% (20.7% to 100.0%)"]
    comparisons = ((0, 1, soft(0.8, 0.6)), (0, 2, soft(0.9, 0.2)), (1, 2, soft(0.5, 0.5)))
    several = {"id": "x", "prompt": "Which?", "responses": ["one", "two", "three"]}
    ranking = labelled_run(tmp_path / "ranking", "ranking", [several], [RankingLabel(comparisons, (1.0, 0.0, -1.0), 9)])
    assert {"Ranking", "Position bias", "Label mass", "Response 2"} <= {*(page := page_of(ranking)).headings}
    assert page.cells("A = 0, B = 2")[:2] == ["0.900", "0.200"]
    sets = SetsLabel(("kind", "brief"), (soft(0.9, 0.9), soft(0.2, 0.6)), PairLabel.COLUMNS)
    principled = labelled_run(tmp_path / "sets", "principled", [row()], [sets])
    assert (page := page_of(principled)).cells("brief")[:2] == ["0.200", "0.600"]
    assert "Position bias" in page.headings


def test_a_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    """No script and no reference but to its own parts; unique ids; nothing wider than a phone."""
    page = page_of(pairs_run(tmp_path / "run", [soft(0.9, 0.7), soft(0.9, 0.2)]))
    assert "script" not in {tag for tag, _ in page.tags}
    references = [page.values(name) for name in ("href", "xlink:href", "src", "srcset", "action", "background")]
    ids = page.values("id")
    assert all(value.startswith("#") and value[1:] in ids for values in references for value in values)
    assert len(ids) == len(set(ids)) > 0
    styles = [page.style, *page.values("style"), *page.values("clip-path")]
    found = [value for text in styles for value in re.findall(r"url\(([^)]*)\)", text)]
    assert found
    assert all(value.startswith("#") and value[1:] in ids for value in found)
    assert "@import" not in page.style
    assert "//" not in "".join(styles)
    viewport = [attrs["content"] for tag, attrs in page.tags if attrs.get("name") == "viewport"]
    assert viewport == ["width=device-width, initial-scale=1"]
    assert not [attrs for tag, attrs in page.tags if tag == "svg" and ("width" in attrs or "height" in attrs)]
    assert not [width for width in re.findall(r"(?<!max-)width:\s*([\d.]+)(?:px|pt)", page.style) if float(width) > 390]
    assert "prefers-color-scheme: dark" in page.style
    assert "@media print" in page.style


def test_plots_have_the_colours_of_the_page(tmp_path: Path) -> None:
    """Catches a plot that cannot be read in the dark: every colour is a variable, of which there are two palettes."""
    page = page_of(pairs_run(tmp_path / "run", [soft(0.9, 0.7), soft(0.9, 0.2)]))
    drawn = [value for value in page.values("style") if "fill" in value or "stroke" in value]
    assert len(drawn) > 20
    assert not [value for value in drawn if re.search(r"(?:fill|stroke): (?!none|var\(--)", value)]
    light, dark = page.style.split("prefers-color-scheme: dark")
    for name in {name for value in drawn for name in re.findall(r"var\((--\w+)\)", value)}:
        assert f"{name}: #" in light
        assert f"{name}: #" in dark


def test_rows_worth_reading_are_the_extreme_ones(tmp_path: Path) -> None:
    labels = [soft(0.6, 0.6) for _ in range(40)]
    labels[7], labels[11], labels[23] = soft(0.95, 0.1), soft(0.02, 0.04), soft(0.6, 0.6, mass=0.01)
    page = page_of(pairs_run(tmp_path / "run", labels))
    summaries = [text for text in page.texts if text.startswith("row ")]
    assert len(summaries) == len(set(summaries)) == 20
    for name, reason in (
        ("row 7", "position gap 0.850"),
        ("row 11", "confidence 0.970"),
        ("row 23", "label mass 0.010"),
    ):
        assert reason in page.texts[page.texts.index(name) + 2]
    assert "this 7" in page.texts


def test_rows_without_their_input(tmp_path: Path) -> None:
    run = pairs_run(tmp_path / "run", [soft(0.9, 0.7)])
    moved = (tmp_path / "run.in.jsonl").rename(tmp_path / "moved.jsonl")
    page = page_of(run)
    assert "Prompts and responses are not shown: " in page.text
    assert "this 0" not in page.text
    assert "this 0" in page_of(run, input=str(moved)).text


def test_labels_without_a_run(tmp_path: Path) -> None:
    run = pairs_run(tmp_path / "run", [soft(0.9, 0.7)])
    page = page_of((run / "labels.parquet").rename(tmp_path / "some.parquet"))
    assert page.headings[0] == "some.parquet"
    assert "What was run" not in page.headings
    assert "they are not in the labels" in page.text


def test_labels_from_elsewhere_with_few_columns(tmp_path: Path) -> None:
    """Catches columns that are taken for granted: ids, label mass, scores that follow from others."""
    path = tmp_path / "few.parquet"
    parquet.write_table(pa.table({"verdict": ["a", "b"], "gold": ["a", "a"]}), path)
    page = page_of(path)
    assert page.cells("all pairs with gold") == ["2", "50.0% (9.5% to 90.5%)"]
    assert "Rows worth reading" not in page.headings
    principles = [[{"name": "kind", "s12": 2.0, "s21": -1.0}], [{"name": "kind", "s12": 1.0, "s21": 1.0}]]
    parquet.write_table(pa.table({"id": ["x", "y"], "principles": principles}), path)
    page = page_of(path)
    assert [row for row in page.rows if row[0] == "kind" and row[1] == "2"] == [["kind", "2", "50.0%", "50.0%", "0.0%"]]
    assert "Label mass" not in page.headings
    parquet.write_table(pa.table({"id": ["x"], "sets": [[{"set": "kind", "p_a": 0.7}]]}), path)
    assert "Position bias" not in page_of(path).headings


def test_histograms(tmp_path: Path) -> None:
    """Catches a last bin that leaves 1 out, and gaps with the wrong sign."""
    columns = {"p_a": [0.0, 1.0, 0.5], "p_a_first": [0.5, 1.0, 1.0], "p_a_second": [0.5, 1.0, 0.0]}
    parquet.write_table(pa.table(columns), tmp_path / "h.parquet")
    found = Survey.of(tmp_path / "h.parquet")
    assert [found.p.counts[place] for place in (0, 10, 19)] == [1, 1, 1]
    assert (found.p.edges[0], found.p.edges[20]) == (0.0, 1.0)
    assert [found.gap.counts[place] for place in (10, 19)] == [2, 1]
    assert found.gap.edges[0] == -1.0


def test_the_same_run_is_the_same_page(tmp_path: Path) -> None:
    """Catches dates and random ids."""
    run = pairs_run(tmp_path / "run", [soft(0.9, 0.7), soft(0.9, 0.2)])
    page_of(run)
    before = (tmp_path / "run.html").read_bytes()
    page_of(run)
    assert (tmp_path / "run.html").read_bytes() == before


def test_the_command_replaces_nothing_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = pairs_run(tmp_path / "run", [soft(0.9, 0.7)])
    out = tmp_path / "page.html"
    arguments = ["report", str(run), "--html", str(out)]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.startswith(f"report   {out}\nwarning  ")
    out.write_text("mine")
    assert cli.main(arguments) == 1
    assert "exists already" in one_error(capsys)
    assert out.read_text() == "mine"
    assert cli.main([*arguments, "--overwrite"]) == 0
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("none/page.html", "no writable directory"),
        (".", "is a directory"),
        ("run/labels.parquet", "name another --html"),
    ],
)
def test_where_no_page_can_go(tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, said: str) -> None:
    run = pairs_run(tmp_path / "run", [soft(0.9, 0.7)])
    before = (run / "labels.parquet").read_bytes()
    assert cli.main(["report", str(run), "--html", str(tmp_path / out), "--overwrite"]) == 1
    assert said in one_error(capsys)
    assert (run / "labels.parquet").read_bytes() == before


@pytest.mark.parametrize("content", [b"no parquet", None])
def test_files_that_hold_no_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None) -> None:
    path = tmp_path / "other.parquet"
    if content is None:
        parquet.write_table(pa.table({"id": ["x"], "text": ["y"]}), path)
    else:
        path.write_bytes(content)
    assert cli.main(["report", str(path), "--html", str(tmp_path / "page.html")]) == 1
    assert str(path) in one_error(capsys)
    assert not (tmp_path / "page.html").exists()


def test_without_matplotlib(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pairs_run(tmp_path / "run", [soft(0.9, 0.7)])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["report", str(run), "--html", str(tmp_path / "page.html")]) == 1
    assert "pip install 'preftree[report]'" in one_error(capsys)
    assert not (tmp_path / "page.html").exists()


def test_plots_of_one_page_share_no_ids() -> None:
    found = []
    for name in ("one", "two"):
        with drawing(1.0) as (figure, axes):
            axes.plot((0, 1), (0, 1), "o")
            found.append({*HtmlPage(svg_of(figure, name, "a line")).values("id")})
    assert found[0]
    assert not found[0] & found[1]
