"""Exports: every row means what its label says, loads where trainers load it, and nothing is left out in silence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

from preftree.engine.errors import InputError, OutputError, PreftreeError, UsageError  # noqa: E402
from preftree.labeling import cli  # noqa: E402
from preftree.labeling.export.comparison import Comparison  # noqa: E402
from preftree.labeling.export.formats import FORMATS  # noqa: E402
from preftree.labeling.export.write import ANNOTATED_PAIRS, write_export  # noqa: E402
from preftree.labeling.methods.principle_labels import (  # noqa: E402
    PrincipleScore,
    SalmonLabel,
    strongest,
)
from preftree.labeling.methods.ranking_labels import RankingLabel  # noqa: E402
from preftree.labeling.methods.score_labels import DirectLabel, Score  # noqa: E402
from preftree.labeling.methods.set_labels import SetsLabel  # noqa: E402
from preftree.labeling.options.export import ExportOptions  # noqa: E402
from preftree.labeling.types import Message, Pair, PairLabel  # noqa: E402
from tests.labeling.fakes import row, write_rows  # noqa: E402
from tests.labeling.labelled_run import labelled_run  # noqa: E402
from tests.labeling.opened import read, sha256_of  # noqa: E402
from tests.labeling.salmon_run import PRINCIPLES  # noqa: E402

SCORES = [[(2.0, 2.0), (1.0, -1.0), (0.0, 0.0)], [(-1.0, -3.0), (1.0, 1.0), (1.0, 1.0)]]
SIDES = [name for name, form in FORMATS.items() if not form.ties]
MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Which?"}]


def soft(p_first: float, p_second: float) -> PairLabel:
    return PairLabel((p_first + p_second) / 2, p_first, p_second, 0.9, 0.9, 10)


def score(reward: float) -> Score:
    return Score(5.0, reward, 5.0, 0.0, 0.9, (1.0,))


def principles_run(directory: Path, scores: Sequence[Sequence[tuple[float, float]]]) -> Path:
    """scores: s12 and s21 under each principle, of each row."""
    judged = [
        [PrincipleScore(p.name, *two, 0.9, 0.9) for p, two in zip(PRINCIPLES, row, strict=True)] for row in scores
    ]
    rows = [row(id=f"row {n}", response_a=f"this {n}") for n in range(len(scores))]
    labels = [SalmonLabel(strongest(PRINCIPLES, [one.counted for one in of]), tuple(of), 9) for of in judged]
    return labelled_run(directory, "salmon", rows, labels, principles=[one.record() for one in PRINCIPLES])


def export(run: Path, to: str, out: str | Path, **options: Any) -> list[Any]:
    """What a JSON file of the export holds."""
    path = run.parent / out
    write_export(ExportOptions(run=str(run), to=to, out=str(path), overwrite=True, **options))
    if to == ANNOTATED_PAIRS:
        return [json.loads(path.read_text())]
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Verdicts a, b, tie; the orders disagree; the same text twice; a row without a label."""
    rows = [row(id=name, prompt=MESSAGES, source="web") for name in ("a", "b", "tie", "disagree")]
    rows += [row(id="same", response_b="this"), row(id="bad", response_a="")]
    labels = [soft(0.9, 0.7), soft(0.0, 0.25), soft(0.5, 0.5), soft(0.9, 0.3), soft(0.5, 0.5), None]
    return labelled_run(tmp_path / "run", "rlaif", rows, labels)


def test_a_preference_in_every_format(run: Path) -> None:
    """Catches sides exchanged, a margin of the wrong sign, a prompt lost or given twice."""
    good, bad = {"role": "assistant", "content": "this"}, {"role": "assistant", "content": "that"}
    whole = {"chosen": [*MESSAGES, good], "rejected": [*MESSAGES, bad]}
    expected: dict[str, list[dict[str, Any]]] = {
        "trl-reward": [{"id": "a", **whole}],
        "trl-soft": [{"id": "a", **whole, "p_chosen": pytest.approx(0.8)}],
        "trl-dpo": [{"id": "a", "prompt": MESSAGES, "chosen": [good], "rejected": [bad]}],
        "kto": [
            {"id": "a", "prompt": MESSAGES, "completion": [good], "label": True},
            {"id": "a", "prompt": MESSAGES, "completion": [bad], "label": False},
        ],
        "openrlhf": [{"id": "a", **whole, "margin": pytest.approx(0.6)}],
        "ultrafeedback": [
            {
                "id": "a",
                **whole,
                "score_chosen": pytest.approx(0.8),
                "score_rejected": pytest.approx(0.2),
            }
        ],
        "soft": [
            {
                "id": "a",
                "prompt": MESSAGES,
                "response_a": "this",
                "response_b": "that",
                "p_a": pytest.approx(0.8),
                "verdict": "a",
            }
        ],
    }
    for name, rows in expected.items():
        found = [entry for entry in export(run, name, "out.jsonl") if entry["id"] == "a"]
        assert found == rows
    [flipped] = [entry for entry in export(run, "trl-dpo", "out.jsonl") if entry["id"] == "b"]
    assert (flipped["chosen"], flipped["rejected"]) == ([bad], [good])
    [asked] = [entry for entry in export(run, "trl-reward", "out.jsonl", margin=True) if entry["id"] == "a"]
    assert asked == {"id": "a", **whole, "margin": pytest.approx(0.6)}


def test_what_is_left_out_is_counted(run: Path) -> None:
    """Catches a tie that becomes a preference, the same text on both sides, and rows that vanish without a word."""
    options: dict[str, Any] = {"run": str(run), "out": str(run.parent / "x.jsonl"), "overwrite": True}
    lines = "\n".join(write_export(ExportOptions(to="trl-dpo", **options)))
    for text in ("3 pairs as trl-dpo", "1 pair: tie", "1 pair: both responses are the same text", "1 pair: no label"):
        assert text in lines
    lines = "\n".join(write_export(ExportOptions(to="kto", min_confidence=0.7, drop_inconsistent=True, **options)))
    assert "2 pairs as kto" in lines
    assert "1 pair: confidence below 0.7" in lines
    assert [entry["id"] for entry in export(run, "kto", "x.jsonl", drop_inconsistent=True)] == ["a", "a", "b", "b"]
    assert [entry["id"] for entry in export(run, "soft", "x.jsonl")] == ["a", "b", "tie", "disagree"]
    assert [entry["id"] for entry in export(run, "soft", "x.jsonl", ties="drop")] == ["a", "b", "disagree"]


def test_soft_labels_are_an_input_again(run: Path) -> None:
    """Catches a text changed on its way through a run and an export."""
    export(run, "soft", "soft.jsonl")
    before = {item.id: item for item in read(run.parent / "run.in.jsonl") if isinstance(item, Pair)}
    for item in read(run.parent / "soft.jsonl"):
        assert isinstance(item, Pair)
        same = before[item.id]
        assert (item.prompt, item.response_a, item.response_b) == (same.prompt, same.response_a, same.response_b)


def test_principles_as_annotators(tmp_path: Path) -> None:
    """Catches a principle's vote under another's name, and one that it did not give."""
    run = principles_run(
        tmp_path / "run", [[(2.0, 2.0), (1.0, -1.0), (0.0, 0.0)], [(-1.0, -3.0), (1.0, 1.0), (1.0, 1.0)]]
    )
    [found] = export(run, ANNOTATED_PAIRS, tmp_path / "x.json")
    assert found["metadata"]["version"] == "2.0"
    annotators = {value["name"]: key for key, value in found["annotators"].items()}
    assert found["annotators"][annotators["ethical"]]["description"] == "Be ethical."
    assert found["annotators"][annotators["ethical"]]["type"] == "principle"
    assert found["metadata"]["default_annotator"] in found["annotators"]
    first, second = found["comparisons"]
    assert first["response_a"] == {"text": "this 0"}
    assert first["prompt"] == "Which?"
    said = [[entry["annotations"][annotators[one.name]] for one in PRINCIPLES] for entry in (first, second)]
    nothing = [{"pref": None, "no_pref_reason": reason} for reason in ("inconsistent", "tie")]
    assert said == [[{"pref": "a"}, *nothing], [{"pref": "b"}, {"pref": "a"}, {"pref": "a"}]]


@pytest.mark.parametrize("method", ["direct", "rubric"])
def test_scores_of_pairs(tmp_path: Path, method: str) -> None:
    """Catches probabilities made up where a method gives none, and a refusal without what is possible."""
    labels = [DirectLabel((score(0.5), score(-0.25)), 1), DirectLabel((score(0.1), score(0.1)), 1)]
    run = labelled_run(tmp_path / "run", method, [row(id="1"), row(id="2")], labels)
    [entry] = export(run, "ultrafeedback", "x.jsonl")
    assert (entry["score_chosen"], entry["score_rejected"]) == (0.5, -0.25)
    assert [one["margin"] for one in export(run, "trl-reward", "x.jsonl", margin=True)] == [0.75]
    for options, message in (
        ({"to": "trl-soft"}, "no probabilities, which trl-soft is made of"),
        ({"to": "kto", "soften": 4}, "no probabilities, which --soften is made of"),
        ({"to": "soft"}, "for them: trl-reward, trl-dpo, kto, openrlhf, ultrafeedback, annotated-pairs, label-studio$"),
        ({"to": "kto", "ties": "keep"}, "a better response in each row; use annotated-pairs or label-studio$"),
        ({"to": "kto", "min_confidence": 0.9}, "have no confidence"),
        ({"to": "kto", "drop_inconsistent": True}, "no order to disagree"),
        ({"to": "kto", "pairs": "all"}, "--pairs all is for labels of methods ranking and reward"),
    ):
        with pytest.raises(InputError, match=message):
            write_export(ExportOptions(run=str(run), out=str(tmp_path / "y.jsonl"), **options))


def test_consistent_pairs_alone(tmp_path: Path) -> None:
    """Catches another definition than that of the column, an order that ties taken for agreement, and labels of an
    earlier version, which have no such column, exported as if all were consistent.
    """
    labels = [soft(0.9, 0.6), soft(0.9, 0.2), soft(0.5, 0.9), soft(0.1, 0.4)]
    rows = [row(id=f"{number}", consistent=number == 1) for number in range(4)]
    run = labelled_run(tmp_path / "run", "rlaif", rows, labels)
    assert [one["id"] for one in export(run, "trl-dpo", "x.jsonl", drop_inconsistent=True)] == ["0", "3"]
    table = pq.read_table(run / "labels.parquet")
    assert table.column("consistent").to_pylist() == [True, False, False, True]
    before = [name.removeprefix("input_") for name in table.schema.names if name != "consistent"]
    pq.write_table(table.drop_columns(["consistent"]).rename_columns(before), run / "labels.parquet")
    assert [one["id"] for one in export(run, "trl-dpo", "x.jsonl", drop_inconsistent=True)] == ["0", "3"]
    turned = table.set_column(table.schema.get_field_index("consistent"), "consistent", [[False, True, True, False]])
    pq.write_table(turned, run / "labels.parquet")
    assert [one["id"] for one in export(run, "trl-dpo", "x.jsonl", drop_inconsistent=True)] == ["1", "2"]


def test_labels_without_orders(tmp_path: Path) -> None:
    """Catches --drop-inconsistent without effect, where the labels do not say on what the orders disagree."""
    run = labelled_run(tmp_path / "run", "panel", [row()], [soft(0.9, 0.1)])
    with pytest.raises(UsageError, match="labels of method panel have no order to disagree with; leave --drop-"):
        export(run, "kto", "x.jsonl", drop_inconsistent=True)


def test_nothing_but_ties(tmp_path: Path) -> None:
    """Catches a dead end: a judge that always prefers one position leaves nothing but ties."""
    run = principles_run(tmp_path / "run", [[(1.0, -1.0)] * 3])
    way_out = "1 pair: tie; a tie has no better response: use trl-soft, soft, annotated-pairs or label-studio, or add"
    with pytest.raises(InputError, match=way_out):
        export(run, "trl-dpo", "x.jsonl")
    assert [one["p_chosen"] for one in export(run, "trl-soft", "x.jsonl")] == [0.5]
    with pytest.raises(InputError, match=r"1 pair: tie$"):
        export(run, "trl-soft", "x.jsonl", ties="drop")


def ranking(tmp_path: Path) -> Path:
    labels = [
        RankingLabel(((0, 1, soft(0.8, 0.6)), (0, 2, soft(0.9, 0.2)), (1, 2, soft(0.5, 0.5))), (1.0, 0.0, -1.0), 9),
        RankingLabel(((0, 1, soft(0.5, 0.5)),), (0.0, 0.0), 9),
    ]
    rows = [{"id": name, "prompt": "Which?", "responses": [*texts]} for name, texts in (("r", "xyz"), ("s", "xy"))]
    return labelled_run(tmp_path / "run", "ranking", rows, labels)


def test_rankings(tmp_path: Path) -> None:
    """Catches indices taken for sides, a pair that was never compared, all of a tied row's responses preferred."""
    run = ranking(tmp_path)
    [entry] = export(run, "soft", "x.jsonl")
    assert (entry["id"], entry["response_a"], entry["response_b"], entry["verdict"]) == ("r/0-2", "x", "z", "a")
    assert entry["p_a"] == pytest.approx(1 / (1 + 2.718281828459045**-2))
    found = {one["id"]: (one["verdict"], one["p_a"]) for one in export(run, "soft", "x.jsonl", pairs="all")}
    tie = ("tie", 0.5)
    assert found == {"r/0-1": ("a", 0.7), "r/0-2": ("a", pytest.approx(0.55)), "r/1-2": tie, "s/0-1": tie}
    kept = export(run, "trl-dpo", "x.jsonl", pairs="all", drop_inconsistent=True)
    assert [one["id"] for one in kept] == ["r/0-1"]


def test_sets_of_principles(tmp_path: Path) -> None:
    """Catches the first of several sets taken for all of them."""
    label = SetsLabel(("kind", "brief"), (soft(0.9, 0.9), soft(0.2, 0.4)), PairLabel.COLUMNS)
    sets = [{"name": name, "statements": [f"Be {name}."]} for name in ("kind", "brief")]
    run = labelled_run(tmp_path / "run", "principled", [row(id="1")], [label], sets=sets)
    [entry] = export(run, "soft", "x.jsonl")
    assert entry["p_a"] == pytest.approx(0.6)
    [found] = export(run, ANNOTATED_PAIRS, "x.json")
    [compared] = found["comparisons"]
    votes = {found["annotators"][key]["name"]: vote["pref"] for key, vote in compared["annotations"].items()}
    assert votes == {"preftree principled": "a", "kind": "a", "brief": "b"}


# what a trainer would load

PAIRS = st.lists(
    st.tuples(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip),
        st.sampled_from([0.0, 0.125, 0.5, 0.625, 1.0]),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=PAIRS)
def test_what_is_exported_loads_and_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, loader: Any, pairs: Sequence[tuple[str, str, float]]
) -> None:
    """Catches types that change from row to row, text that does not survive, verdicts that read back as others."""
    directory = tmp_path_factory.mktemp("export")
    rows = [row(id=str(n), prompt=MESSAGES, response_a=a, response_b=b) for n, (a, b, _) in enumerate(pairs)]
    run = labelled_run(directory / "run", "rlaif", rows, [soft(p, p) for *_, p in pairs])
    expected = {(a, b) if p > 0.5 else (b, a) for a, b, p in pairs if p != 0.5 and a != b}
    for name, ending in ((name, ending) for name in SIDES for ending in (".jsonl", ".parquet")):
        out = directory / f"{name}{ending}"
        try:
            write_export(ExportOptions(run=str(run), to=name, out=str(out)))
        except InputError as error:
            assert "leaves nothing to export" in str(error)  # noqa: PT017
            assert not expected
            continue
        loaded = loader(out)
        assert list(loaded.features) == list(FORMATS[name].columns)
        assert preferences(name, loaded.to_list()) == expected


def preferences(name: str, rows: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """(better, worse) of each pair, as a trainer would take them."""
    if name == "kto":
        texts = [one["completion"][0]["content"] for one in rows]
        assert [one["label"] for one in rows] == [True, False] * (len(rows) // 2)
        return set(zip(texts[::2], texts[1::2], strict=True))
    for one in rows:
        assert [message["role"] for message in one["chosen"]][-1] == "assistant"
    return {(one["chosen"][-1]["content"], one["rejected"][-1]["content"]) for one in rows}


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`datasets` on local files, with a cache of its own and no network."""
    cache = str(tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HF_HOME", cache)
        environment.setenv("HF_HUB_OFFLINE", "1")
        datasets = pytest.importorskip("datasets")

        def load(path: Path, **options: Any) -> Any:
            kind = "parquet" if path.suffix == ".parquet" else "json"
            return datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=cache, **options)

        yield load


def test_annotated_pairs_load(tmp_path: Path, loader: Any) -> None:
    run = principles_run(
        tmp_path / "run", [[(2.0, 2.0), (1.0, 2.0), (0.0, 0.0)], [(-1.0, -3.0), (1.0, 1.0), (1.0, 1.0)]]
    )
    [found] = export(run, ANNOTATED_PAIRS, tmp_path / "x.json")
    loaded = loader(tmp_path / "x.json", field="comparisons").to_list()
    assert [one["id"] for one in loaded] == ["row 0", "row 1"]
    for one, entry in zip(loaded, found["comparisons"], strict=True):
        assert {key: vote["pref"] for key, vote in one["annotations"].items()} == {
            key: vote["pref"] for key, vote in entry["annotations"].items()
        }


def test_saved_datasets_are_read(tmp_path: Path, loader: Any) -> None:
    """Catches a directory of the real library that our reader does not know, conversations and splits included."""
    import datasets

    rows = [{"id": str(n), "chosen": [*MESSAGES, {"role": "assistant", "content": f"c {n}"}],
             "rejected": [*MESSAGES, {"role": "assistant", "content": f"r {n}"}]} for n in range(5)]  # fmt: skip
    whole = datasets.Dataset.from_list(rows)
    datasets.DatasetDict({"train": whole, "test": whole.select([3, 1])}).save_to_disk(str(tmp_path / "saved"))
    pairs = [one for one in read(tmp_path / "saved" / "test") if isinstance(one, Pair)]
    assert [(one.id, one.response_a, one.response_b) for one in pairs] == [
        ("3", "c 3", "r 3"), ("1", "c 1", "r 1")
    ]  # fmt: skip
    assert pairs[0].prompt == (Message("system", "Be kind."), Message("user", "Which?"))


# what cannot be exported


def test_refusals(run: Path, tmp_path: Path) -> None:
    """Catches a file that is not what its name says, somebody's file replaced, the run or its input overwritten."""
    (tmp_path / "there.jsonl").write_text("mine")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"out": "x.csv"}, "written to .jsonl or .parquet"),
        ({"out": "x.jsonl", "to": ANNOTATED_PAIRS}, "written to .json, which"),
        ({"out": "there.jsonl"}, "exists already"),
        ({"out": "run.in.jsonl", "overwrite": True}, "is what is exported"),
        ({"out": "no/x.jsonl"}, "no writable directory"),
        ({"out": "x.jsonl", "ties": "keep"}, "--ties keep: trl-dpo has a better response in each row"),
        ({"out": "x.jsonl", "margin": True}, "--margin is for trl-reward and not for trl-dpo"),
        ({"out": "x.jsonl", "to": "trl-soft", "soften": 4}, "--soften is for formats without .*, and trl-soft keeps"),
        ({"out": "x.json", "to": ANNOTATED_PAIRS, "soften": 4}, "--soften is for formats without .*, and annotated-"),
        ({"out": "x.jsonl", "to": "trl-reward", "soften": 4, "margin": True}, "--margin excludes --soften"),
        ({"out": "x.jsonl", "soften": 1}, "--soften must be a whole number, from 2 to 1,000"),
        ({"out": "x.jsonl", "seed": 1}, "--seed requires --soften"),
        ({"out": "x.jsonl", "min_confidence": 0.99}, "leaves nothing to export; .*confidence below 0.99"),
        ({"out": "x.jsonl", "input": str(tmp_path / "there.jsonl")}, "is not the file that was labelled"),
        ({"out": "x.jsonl", "run": str(tmp_path)}, "no such file: .*run.json"),
    ]
    for options, message in cases:
        asked = {"run": str(run), "to": "trl-dpo", **options}
        asked["out"] = str(tmp_path / asked["out"])
        with pytest.raises(PreftreeError, match=message) as error:
            write_export(ExportOptions(**asked))
        assert "\n" not in str(error.value)
    assert (tmp_path / "there.jsonl").read_text() == "mine"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".") or path.name == "x.jsonl"]


def test_what_is_no_file_is_not_replaced(run: Path, tmp_path: Path) -> None:
    """Catches a device or a pipe that is replaced by rows, and a link's target that is written."""
    pipe, link, precious = (tmp_path / name for name in ("pipe.jsonl", "link.jsonl", "precious"))
    os.mkfifo(pipe)
    precious.write_text("mine")
    link.symlink_to(precious)
    with pytest.raises(OutputError, match=r"pipe\.jsonl is a named pipe; name a file"):
        write_export(ExportOptions(run=str(run), to="soft", out=str(pipe), overwrite=True))
    write_export(ExportOptions(run=str(run), to="soft", out=str(link), overwrite=True))
    assert precious.read_text() == "mine"
    assert not link.is_symlink()


def test_an_unfinished_run(run: Path, tmp_path: Path) -> None:
    """Catches half of the labels taken for all of them."""
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "state": "running"}))
    with pytest.raises(OutputError, match="is not finished"):
        export(run, "trl-dpo", "x.jsonl")


def test_labels_of_another_input(run: Path, tmp_path: Path) -> None:
    """Catches texts put beside another row's label."""
    source = tmp_path / "run.in.jsonl"
    lines = source.read_text().splitlines()
    write_rows(source, [line.encode() for line in [lines[1], lines[0], *lines[2:]]])
    record = json.loads((run / "run.json").read_text())
    record["input"]["sha256"] = sha256_of(source)
    (run / "run.json").write_text(json.dumps(record))
    with pytest.raises(OutputError, match="row b is not there, or not in the same order"):
        export(run, "trl-dpo", "x.jsonl")


def test_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an option that does not arrive, and formats that the command line does not know."""
    for name in (*FORMATS, ANNOTATED_PAIRS):
        assert ExportOptions(run="run", to=name, out="x").to == name
    out = tmp_path / "x.parquet"
    arguments = ["export", str(run), "--to", "kto", "--out", str(out), "--min-confidence", "0.7", "--drop-inconsistent"]
    assert cli.main(arguments) == 0
    assert "2 pairs as kto" in capsys.readouterr().out
    assert cli.main(arguments) == 1
    assert "exists already" in capsys.readouterr().err
    assert cli.main([*arguments, "--overwrite"]) == 0


def test_a_comparison() -> None:
    one = Comparison("x", (), "a", "b", "b", p_a=0.25)
    assert (one.confidence, one.margin, one.chosen, one.rejected) == (0.75, 0.5, "b", "a")
