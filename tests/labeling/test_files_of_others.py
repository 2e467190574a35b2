"""Files that people have: battles, outputs of two models, principles; and what is said of those that cannot be read."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import PreftreeError
from preftree.labeling.data.dataset import Dataset
from preftree.labeling.principles.sets import load_principles
from preftree.labeling.types import Message, Pair, Rejected
from tests.labeling.fakes import row, write_rows
from tests.labeling.opened import info_of, read


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def parts(text: str) -> list[dict[str, Any]]:
    answer = {"role": "assistant", "content": [{"type": "text", "text": text, "image": None}]}
    return [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}, answer]


def battle(**changes: Any) -> dict[str, Any]:
    both = {"conversation_a": talk("Why?", "So."), "conversation_b": talk("Why?", "No.")}
    return {"question_id": "q1", "model_a": "x", "model_b": "y", "winner": "model_a", **both, **changes}


@pytest.mark.parametrize(
    ("entry", "identity", "gold"),
    [
        (battle(), "q1", "a"),
        (battle(winner="model_b"), "q1", "b"),
        (battle(winner="tie (bothbad)"), "q1", "tie"),
        (battle(winner="?"), "q1", None),
        (
            {"id": "n1", "winner": "both_bad", "conversation_a": parts("So."), "conversation_b": parts("No.")},
            "n1",
            "tie",
        ),
    ],
)
def test_arena_battles(tmp_path: Path, entry: dict[str, Any], identity: str, gold: str | None) -> None:
    """Catches a battle taken for something else, its sides exchanged, and one lost for a winner of another name."""
    path = write_rows(tmp_path / "in.jsonl", [entry])
    [item] = read(path)
    assert isinstance(item, Pair), item
    assert (item.id, item.prompt, item.response_a, item.response_b) == (
        identity,
        (Message("user", "Why?"),),
        "So.",
        "No.",
    )
    assert item.gold == gold
    assert info_of(path).odd_golds == (gold is None)
    assert "Arena battles" in info_of(path).about
    assert "response A ends conversation_a, B ends conversation_b, gold is winner" in info_of(path).about


def test_battles_that_part_before_their_last_turn(tmp_path: Path) -> None:
    """Catches a verdict on a last answer to another question."""
    one, other = talk("Hi", "Hello.", "Why?", "So."), talk("Hi", "Go away.", "Why?", "No.")
    [item] = read(write_rows(tmp_path / "in.jsonl", [battle(conversation_a=one, conversation_b=other)]))
    assert isinstance(item, Rejected)
    assert item.reason.startswith("different prompts: ")


def outputs(model: str, *instructions: str) -> list[dict[str, str]]:
    return [
        {"dataset": "d", "instruction": one, "output": f"{model} on {one}", "generator": model} for one in instructions
    ]


def written(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text(json.dumps(rows))
    return str(path)


def test_outputs_of_two_models(tmp_path: Path) -> None:
    """Catches outputs of two models scored alone, paired by line instead of instruction, or lost without a reason."""
    one = written(tmp_path / "one.json", outputs("x", "p", "q", "q", "alone"))
    other = written(tmp_path / "other.json", outputs("y", "q", "p", "q", "unasked"))
    dataset = Dataset.open([one, other])
    *pairs, alone, unasked = dataset.read()
    assert [(pair.prompt[0].content, pair.response_a, pair.response_b) for pair in pairs if isinstance(pair, Pair)] == [
        (text, f"x on {text}", f"y on {text}") for text in ("p", "q", "q")
    ]
    assert {name: pairs[0].extra[name] for name in ("generator_1", "generator_2")} == {
        "generator_1": "x",
        "generator_2": "y",
    }
    reasons = [item.reason for item in (alone, unasked) if isinstance(item, Rejected)]
    assert reasons == [
        f"no partner: {other} has no output for it",
        f"no partner: line 4 of {other} has an instruction of its own",
    ]
    assert f"two files side by side (output_1 is of {one}), AlpacaEval pairs" in dataset.info.about
    assert not dataset.info.has_gold


def test_files_of_one_model_are_no_pairs(tmp_path: Path) -> None:
    """Catches two shards of one model's outputs joined as if they were two models'."""
    names = [written(tmp_path / f"{part}.json", outputs("x", f"p{part}")) for part in range(2)]
    assert "Alpaca answers" in Dataset.open(names).info.about


def test_principles_as_salmon_released_them(tmp_path: Path) -> None:
    """Catches the fields of its files unknown: those of reward models, and those with weights."""
    entries: list[dict[str, Any]] = [
        {"dimension": "Concise", "definition": "Be brief and clear.", "negative_definition": "Avoid being brief."},
        {"dimension": "Candor", "definition": "Say what is not known.", "weight": 4},
    ]
    path = tmp_path / "principle_collection.json"
    path.write_text(json.dumps(entries))
    found = load_principles(str(path))
    assert [(one.name, one.positive, one.negative, one.weight) for one in found] == [
        ("Concise", "Be brief and clear.", "Avoid being brief.", 1.0),
        ("Candor", "Say what is not known.", None, 4.0),
    ]


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ("response=outptu", r"no column outptu to --map to response; it has question, output; did you mean output\?$"),
        ("respnse=output", r"^--map respnse=output: respnse is no field; did you mean response\?$"),
        (
            "response=output",
            r"has question, response: no columns that are known; name them, such as --map prompt=question$",
        ),
    ],
)
def test_mappings_that_are_almost_right(tmp_path: Path, mapping: str, said: str) -> None:
    """Catches a typing error answered by a list alone, and responses asked for that are there."""
    path = write_rows(tmp_path / "in.jsonl", [{"question": "Why?", "output": "So."}])
    with pytest.raises(PreftreeError, match=said):
        _ = Dataset.open(path, [mapping]).layout


FILES = {
    "rows.csv": (b"prompt;response\nWhy?, really;So.\n", r"separates its columns by ';'; save it with commas, or"),
    "rows.pkl": (pickle.dumps([row()], protocol=0), r"is a pickle by its name, and pickles are never read; save"),
    "rows.jsonl": (pickle.dumps([row()]), r"is a pickle, which is never read; save the rows as Parquet$"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_input(tmp_path: Path, name: str) -> None:
    """Catches a message about something else than what is wrong."""
    content, said = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PreftreeError, match=said):
        _ = Dataset.open(tmp_path / name).layout
