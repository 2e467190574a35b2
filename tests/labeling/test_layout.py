"""Columns by many names: recognised, or mapped, or refused in a line that says how to go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from preftree.engine.errors import InputError
from preftree.labeling.types import Message, Pair, Rejected, Response, ResponseSet
from tests.labeling.fakes import row, write_rows
from tests.labeling.files import write_csv, write_parquet
from tests.labeling.opened import info_of, read

USER = {"role": "user", "content": "Why?"}
SYSTEM = {"role": "system", "content": "Be kind."}


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def dialogue(last: str) -> str:
    return f"\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant: {last}"


WHY = (Message("user", "Why?"),)
TALK = (Message("user", "Hi"), Message("assistant", "Hello."), *WHY)
COMPARISON = {
    "info": {"id": "t3", "post": "Why?", "title": "T"},
    "summaries": [{"text": "good", "policy": "x"}, {"text": "bad", "policy": "y"}],
    "choice": 0,
    "worker": "w",
}

KNOWN: list[tuple[str, dict[str, Any], tuple[Message, ...], str | None, dict[str, Any]]] = [
    ("preftree's own columns", row(prompt="Why?", response_a="good", response_b="bad", gold="b"), WHY, "b", {}),
    ("TRL preferences with an explicit", {"prompt": "Why?", "chosen": "good", "rejected": "bad"}, WHY, "a", {}),
    (
        "TRL preferences, conversations with an explicit prompt",
        {"prompt": [SYSTEM, USER], "chosen": [answer("good")], "rejected": [answer("bad")]},
        (Message("system", "Be kind."), *WHY),
        "a",
        {},
    ),
    ("TRL preferences with an implicit", {"chosen": "Why? good", "rejected": "Why? bad"}, WHY, "a", {}),
    (
        "TRL preferences, conversations with an implicit prompt",
        {"chosen": [USER, answer("good")], "rejected": [USER, answer("bad")], "source": "web"},
        WHY,
        "a",
        {"source": "web"},
    ),
    ("HH-RLHF dialogues", {"chosen": dialogue("good"), "rejected": dialogue("bad")}, TALK, "a", {}),
    (
        "UltraFeedback-binarized",
        {
            "prompt": "Why?",
            "prompt_id": "p",
            "chosen": [USER, answer("good")],
            "rejected": [USER, answer("bad")],
            "score_chosen": 9.0,
        },
        WHY,
        "a",
        {"prompt_id": "p", "score_chosen": 9.0},
    ),
    ("TL;DR comparisons", COMPARISON, WHY, "a", {"worker": "w"}),
    (
        "RewardBench",
        {"id": 7, "prompt": "Why?", "chosen": "good", "rejected": "bad", "subset": "hep", "gold": "x"},
        WHY,
        "a",
        {"subset": "hep", "input_gold": "x"},
    ),
    (
        "AlpacaEval pairs",
        {"instruction": "Why?", "output_1": "good", "output_2": "bad", "preference": 1.9, "annotator": "z"},
        WHY,
        "b",
        {"annotator": "z"},
    ),
    ("AlpacaEval pairs", {"instruction": "Why?", "output_1": "good", "output_2": "bad"}, WHY, None, {}),
]


@pytest.mark.parametrize("number", range(len(KNOWN)))
def test_known_columns(tmp_path: Path, number: int) -> None:
    """Catches sides exchanged, a prompt that keeps an answer, gold lost, columns that vanish; in tables, too."""
    about, entry, prompt, gold, extra = KNOWN[number]
    lines = write_rows(tmp_path / "in.jsonl", [entry])
    table = tmp_path / "in.parquet"
    write_parquet(table, [entry])
    for path in (lines, table):
        [pair] = read(path)
        assert isinstance(pair, Pair), pair
        assert (pair.prompt, pair.response_a, pair.response_b, pair.gold) == (prompt, "good", "bad", gold)
        assert pair.extra == extra | ({"title": "T"} if entry is COMPARISON else {}), "what templates may show"
        found = info_of(path)
        assert about in found.about
        assert (list(found.columns), found.has_gold) == (list(extra), gold is not None)


@pytest.mark.parametrize("write", [write_parquet, write_rows])
def test_generations(tmp_path: Path, write: Callable[[Path, list[Any]], object]) -> None:
    """Catches a list of one that is found out only when the model is loaded, a column that a sample would shadow."""
    path = tmp_path / "in"
    write(path, [{"instruction": "Why?", "generations": ["x", "y"], "responses": 1}])
    assert list(read(path)) == [ResponseSet("line-1", WHY, ("x", "y"), {"input_responses": 1}, 1)]
    write(path, [{"instruction": "Why?", "generations": ["x"]}])
    assert info_of(path).lone_line == 1


@pytest.mark.parametrize(("about", "prompt"), [("", "Say it."), ("Bonjour", "Say it.\n\nBonjour"), (None, "Say it.")])
def test_alpaca_answers(tmp_path: Path, about: str | None, prompt: str) -> None:
    """Catches an input that the instruction is about left out, or added where there is none."""
    entry = {"instruction": "Say it.", "input": about, "output": "it", "generator": "x"}
    [item] = read(write_rows(tmp_path / "in.jsonl", [entry]))
    assert item == Response("line-1", (Message("user", prompt),), "it", {"generator": "x"}, 1)


GOOD: list[dict[str, Any]] = [
    {"prompt": "Why?", "chosen": "good", "rejected": "bad"},
    {"chosen": dialogue("good"), "rejected": dialogue("bad")},
    {name: COMPARISON[name] for name in ("info", "summaries", "choice")},
    {"instruction": "Why?", "output_1": "good", "output_2": "bad"},
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "p", "chosen": "x", "rejected": None}, "wrong type: rejected must be a string or a list of messages"),
    ({"prompt": "p", "chosen": "x", "rejected": []}, "wrong type: chosen is a string and rejected a list"),
    ({"prompt": "p", "chosen": "x", "rejected": " "}, "blank text: response_b"),
    ({"prompt": "p", "chosen": [], "rejected": [answer("x")]}, "blank text: chosen has no messages"),
    ({"prompt": "p", "chosen": ["x"], "rejected": ["y"]}, "wrong type: the last message of chosen must be an object"),
    ({"prompt": "p", "chosen": [USER], "rejected": [USER]}, "bad answer: the last message of chosen must come from"),
    (
        {"prompt": "p", "chosen": [USER, answer("x")], "rejected": [USER, answer("y")]},
        "different prompts: ",
    ),
    (
        {"prompt": [SYSTEM, USER], "chosen": [USER, answer("x")], "rejected": [USER, answer("y")]},
        "different prompts: chosen does not begin with prompt",
    ),
    ({"chosen": [answer("x")], "rejected": [answer("y")]}, "no prompt: chosen and rejected are one message each"),
    (
        {"chosen": [USER, answer("x")], "rejected": [SYSTEM, answer("y")]},
        "different prompts: ",
    ),
    ({"chosen": "Why? same", "rejected": "Why? same"}, "no prompt: chosen and rejected are the same text"),
    ({"chosen": "Yes. Why", "rejected": "No. Why"}, "no prompt: chosen and rejected begin with different words"),
    ({"chosen": dialogue("x"), "rejected": "\n\nHuman: Else\n\nAssistant: y"}, "different prompts: "),
    ({"chosen": dialogue("x"), "rejected": "text"}, "bad dialogue: "),
    ({"chosen": dialogue("x"), "rejected": dialogue("")}, "blank text: response_b"),
    ({**GOOD[2], "choice": 2}, "bad gold: choice must be 0 or 1, found 2"),
    ({**GOOD[2], "info": "x"}, "wrong type: info must be an object, found a string"),
    ({**GOOD[2], "summaries": ["x", "y"]}, "wrong type: each of summaries"),
    ({**GOOD[2], "summaries": [{"text": "x"}]}, "wrong type: summaries must be a list of two"),
    ({**GOOD[2], "info": {"post": None}}, "wrong type: prompt must be a string"),
    ({"instruction": "p", "output_1": "x", "output_2": "y", "preference": 3}, "bad gold: preference must be"),
    (
        {"instruction": "p", "output_1": "x", "output_2": "y", "preference": "a"},
        "bad gold: preference must be",
    ),
    ({"instruction": "p", "output_1": "x", "output_2": 5}, "wrong type: response_b must be a string"),
]


@pytest.mark.parametrize(("entry", "reason"), BAD)
def test_bad_rows_of_known_columns(tmp_path: Path, entry: dict[str, Any], reason: str) -> None:
    """Catches a guess: a row that is not what its columns say is rejected by itself, id and other columns kept."""
    good = next(one for one in GOOD if one.keys() <= entry.keys())
    entry = {"id": "bad", **entry, "note": "kept"}
    first, item, last = read(write_rows(tmp_path / "in.jsonl", [good, entry, {**good, "id": "last"}]))
    assert isinstance(item, Rejected)
    assert item.reason.startswith(reason)
    assert (item.id, item.extra, item.line) == ("bad", {"note": "kept"}, 2)
    assert [type(one) for one in (first, last)] == [Pair, Pair]


PREFERENCES = [(1, "a"), (2, "b"), (1.5, "tie"), (0, "tie"), (1.49, "a"), ("2.0", "b"), (None, None)]


@pytest.mark.parametrize(("preference", "gold"), PREFERENCES)
def test_alpaca_preferences(tmp_path: Path, preference: Any, gold: str | None) -> None:
    [pair] = read(write_rows(tmp_path / "in.jsonl", [{**GOOD[3], "preference": preference}]))
    assert isinstance(pair, Pair)
    assert pair.gold == gold


def test_a_csv_of_preferences(tmp_path: Path) -> None:
    write_csv(tmp_path / "in.csv", [{"instruction": "Why?", "output_1": "x", "output_2": "y", "preference": 2.0}])
    [pair] = read(tmp_path / "in.csv")
    assert isinstance(pair, Pair)
    assert pair.gold == "b"


UNKNOWN = [
    (
        {"question": "p", "good": "x", "bad": "y"},
        "has question, good, bad: no columns that are known; name",
    ),
    ({"prompt": "p", "response_a": "x"}, "has prompt, response_a: no columns that are known"),
    (
        {"question": "p", "chosen": "x", "rejected": "y"},
        "no prompt, and question may be the prompt; say --map prompt=",
    ),
    ({"chosen": "The sky", "rejected": "A bird"}, "no prompt, and they begin differently; say --map prompt=COLUMN"),
    ({"prompt": "p", "response": "r", "chosen": "x", "rejected": "y"}, "preftree's own columns or preferences: it has"),
    (
        {"instruction": "i", "generations": ["x", "y"], "prompt": "i", "chosen": "x", "rejected": "y"},
        "could be preferences or distilabel generations.*--map instruction=instruction",
    ),
]


@pytest.mark.parametrize(("entry", "message"), UNKNOWN)
def test_unknown_and_ambiguous_columns(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    """Catches a guess where two readings are possible, and an error that does not say what to do."""
    for action in (info_of, lambda path: list(read(path))):
        with pytest.raises(InputError, match=message) as error:
            action(write_rows(tmp_path / "in.jsonl", [entry]))
        assert "\n" not in str(error.value)


def test_mapping(tmp_path: Path) -> None:
    """Catches a mapped column that passes through as well, a field's name lost, a path that leads nowhere."""
    entry = {"q": "Why?", "prompt": "old", "out": [{"text": "good"}, {"text": "bad"}], "key": 5}
    path = write_rows(tmp_path / "in.jsonl", [entry])
    write_parquet(tmp_path / "in.parquet", [entry])
    mapping = ("prompt=q", "response_a=out.0.text", "response_b=out.1.text", "id=key")
    for source in (path, tmp_path / "in.parquet"):
        [pair] = read(source, mapping=mapping)
        assert isinstance(pair, Pair)
        assert (pair.id, pair.prompt, pair.response_a, pair.response_b) == ("5", WHY, "good", "bad")
        assert pair.extra == {"input_prompt": "old", "out": entry["out"]}
        assert info_of(source, mapping).columns == {"input_prompt": "string", "out": "json"}


def test_mapping_settles_what_is_ambiguous(tmp_path: Path) -> None:
    entry = {"prompt": "Why?", "response": "r", "chosen": "good", "rejected": "bad"}
    path = write_rows(tmp_path / "in.jsonl", [entry])
    kinds = {"response=response": Response, "chosen=chosen": Pair, "response_a=chosen": None}
    for text, kind in kinds.items():
        if kind is None:
            [item] = read(path, mapping=(text, "response_b=rejected"))
            assert isinstance(item, Pair)
            assert item.gold is None
        else:
            [item] = read(path, mapping=(text,))
            assert type(item) is kind


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (["prompt"], "is not FIELD=COLUMN"),
        (["=x"], "is not FIELD=COLUMN"),
        (["promt=x"], r"promt is no field; did you mean prompt\?"),
        (["quality=x"], "quality is no field; use one of id, prompt"),
        (["prompt=x", "prompt=y"], "gives prompt two columns, x and y"),
        (["prompt=x", "response=x"], "takes column x twice"),
        (["prompt=gone"], "has no column gone to --map to prompt; it has id, prompt, response_a, response_b"),
        (["prompt=prompt.x"], "has no column prompt.x"),
    ],
)
def test_bad_mappings(tmp_path: Path, mapping: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        info_of(write_rows(tmp_path / "in.jsonl", [row()]), mapping)


def test_the_first_good_rows_decide(tmp_path: Path) -> None:
    """Catches a file that cannot be recognised for a broken line at its top."""
    path = write_rows(tmp_path / "in.jsonl", [b"broken", GOOD[0]])
    assert [type(item) for item in read(path)] == [Rejected, Pair]
