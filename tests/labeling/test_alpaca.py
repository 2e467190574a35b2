"""Alpaca-style columns: the prompt is the instruction with its input, in every layout that has one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.data.layout import column_mapping, recognise_names
from preftree.labeling.data.objects import source_of
from preftree.labeling.data.prompts import Prompts
from preftree.labeling.types import Message, Pair, Rejected
from tests.labeling.fakes import write_rows
from tests.labeling.files import write_csv, write_parquet
from tests.labeling.opened import info_of, read

ASKED = {"instruction": "Say it in French.", "input": "Good day"}
JOINED = (Message("user", "Say it in French.\n\nGood day"),)
LAYOUTS: list[tuple[str, dict[str, Any]]] = [
    ("AlpacaEval pairs", {"output_1": "Bonjour", "output_2": "Salut"}),
    ("Alpaca preferences", {"chosen": "Bonjour", "rejected": "Salut"}),
    ("PandaLM pairs", {"response1": "Bonjour", "response2": "Salut", "annotator1": 1}),
    ("distilabel generations", {"generations": ["Bonjour", "Salut"]}),
    ("Alpaca answers", {"output": "Bonjour"}),
]


@pytest.mark.parametrize(("name", "responses"), LAYOUTS)
def test_the_input_is_part_of_the_prompt(tmp_path: Path, name: str, responses: dict[str, Any]) -> None:
    """Catches a judge that never sees what an instruction is about, and an empty input that adds a blank line."""
    rows = [ASKED | responses, *(ASKED | {"input": empty} | responses for empty in ("", " \n", None))]
    lines = write_rows(tmp_path / "in.jsonl", rows)
    write_parquet(tmp_path / "in.parquet", rows)
    for path in (lines, tmp_path / "in.parquet"):
        found = [item.prompt for item in read(path) if not isinstance(item, Rejected)]
        assert found == [JOINED, *[(Message("user", "Say it in French."),)] * 3]
        about = info_of(path).about
        assert f"{name}: " in about
        assert about.endswith("; the prompt is instruction and, after a blank line, input where a row has one")
    for row in rows:
        del row["input"]
    assert "blank line" not in info_of(write_rows(lines, rows)).about


def test_an_input_that_cannot_be_joined(tmp_path: Path) -> None:
    """Catches a number or a list shown to the judge as Python prints it."""
    rows: list[Any] = [ASKED | {"output": "x"} | odd for odd in ({"input": 7}, {"instruction": [{"role": "user"}]})]
    found = [item.reason for item in read(write_rows(tmp_path / "in.jsonl", rows)) if isinstance(item, Rejected)]
    assert found == [
        "wrong type: input must be a string, to join instruction and input, found a number",
        "wrong type: instruction must be a string, to join instruction and input, found a list",
    ]


@pytest.mark.parametrize("given", ["Good day", ""])
def test_a_prompt_that_is_named_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture, given: str) -> None:
    """Catches --map overruled, an input left out in silence, and a warning where nothing is left out."""
    entry = ASKED | {"input": given, "one": "Bonjour", "two": "Salut"}
    path = write_rows(tmp_path / "in.jsonl", [entry])
    mapping = ("prompt=instruction", "response_a=one", "response_b=two")
    [item] = read(path, mapping=mapping)
    assert isinstance(item, Pair)
    assert (item.prompt, item.extra) == ((Message("user", "Say it in French."),), {"input": given})
    info_of(path, mapping)
    assert ("without column input; to join them, leave out" in caplog.text) == bool(given)

    [item] = read(path, mapping=("output_1=one", "output_2=two"))
    assert isinstance(item, Pair)
    assert item.prompt[0].content == "Say it in French." + (f"\n\n{given}" if given else "")


@pytest.mark.parametrize(
    ("votes", "gold"),
    [
        ((1, 1, 1), "a"),
        ((2, 1, 2), "b"),
        ((0, 0, 1), "tie"),
        ((0, 1, 2), None),
        ((1, 2, None), None),
        ((None, None, 2), "b"),
        ((None, None, None), None),
    ],
)
def test_gold_of_several_annotators(tmp_path: Path, votes: tuple[int | None, ...], gold: str | None) -> None:
    """Catches a minority taken for gold, and 0 for the first response; of a CSV, votes are strings."""
    entry: dict[str, Any] = {"idx": 0, **ASKED, "response1": "x", "response2": "y"}
    entry |= {f"annotator{place}": vote for place, vote in enumerate(votes, 1)}
    write_csv(tmp_path / "in.csv", [entry])
    for path in (write_rows(tmp_path / "in.jsonl", [entry]), tmp_path / "in.csv"):
        [pair] = read(path)
        assert isinstance(pair, Pair), pair
        assert (pair.gold, pair.response_a, pair.response_b) == (gold, "x", "y")
        assert {"idx", "annotator1"} <= pair.extra.keys()


@pytest.mark.parametrize("vote", [3, True, [1], "first"])
def test_votes_that_are_none(tmp_path: Path, vote: object) -> None:
    entry = {**ASKED, "response1": "x", "response2": "y", "annotator1": vote}
    [item] = read(write_rows(tmp_path / "in.jsonl", [entry]))
    assert isinstance(item, Rejected)
    assert item.reason.startswith("bad gold: an annotator must say 1, 2 or 0, found ")


def test_conversations_hold_their_prompt(tmp_path: Path) -> None:
    """Catches messages beside an instruction taken for two answers to it, by rows and by names of columns alone."""
    talks = [[{"role": "user", "content": "Why?"}, {"role": "assistant", "content": text}] for text in ("x", "y")]
    entry = {"instruction": "Why?", "chosen": talks[0], "rejected": talks[1]}
    path = write_rows(tmp_path / "in.jsonl", [entry])
    layout = recognise_names(source_of([entry]), list(entry), column_mapping(()))
    for pair in (*read(path), layout.item(entry, 1)):
        assert isinstance(pair, Pair), pair
        assert (pair.prompt, pair.response_a, pair.response_b) == ((Message("user", "Why?"),), "x", "y")
    dialogues = {name: f"\n\nHuman: Why?\n\nAssistant: {name}" for name in ("chosen", "rejected")}
    with pytest.raises(InputError, match=r"no prompt, and instruction may be the prompt; say --map prompt="):
        info_of(write_rows(tmp_path / "in.jsonl", [{"instruction": "Why?"} | dialogues]))


def test_prompts_without_responses(tmp_path: Path) -> None:
    """Catches `sample` that wants a column named prompt of Alpaca's own file, or drops its inputs."""
    for row in (ASKED, ASKED | {"output": "Bonjour"}):
        [found] = Prompts.open(write_rows(tmp_path / "in.jsonl", [row])).read()
        assert not isinstance(found, Rejected)
        assert found.prompt == JOINED


def test_two_models_are_paired_by_instruction_and_input(tmp_path: Path) -> None:
    """Catches answers about two different inputs of one instruction judged against each other."""
    texts = ("Good day", "Good night")
    files = []
    for model, order in (("x", texts), ("y", texts[::-1])):
        rows = [ASKED | {"input": text, "output": f"{model} on {text}", "generator": model} for text in order]
        files.append(str(write_rows(tmp_path / f"{model}.jsonl", rows)))
    pairs = [item for item in Dataset.open(files).read() if isinstance(item, Pair)]
    assert [(pair.response_a, pair.response_b) for pair in pairs] == [(f"x on {t}", f"y on {t}") for t in texts]


def test_arrays_are_called_arrays(tmp_path: Path) -> None:
    """Catches a JSON array announced as JSONL; arrays and lines may still be labelled together."""
    rows = [ASKED | {"output": text} for text in ("x", "y")]
    lines, array = write_rows(tmp_path / "1.jsonl", rows), tmp_path / "2.json"
    array.write_text(json.dumps(rows))
    packed = tmp_path / "3.json.gz"
    packed.write_bytes(gzip.compress(array.read_bytes()))
    for path, form in ((lines, "JSONL, Al"), (array, "JSON array, Al"), (packed, "JSON array, gzip, Al")):
        assert info_of(path).about.startswith(form)
    about = Dataset.open([str(lines), str(array), str(packed)]).info.about
    assert about.startswith("3 files of JSONL and JSON array, Al")
