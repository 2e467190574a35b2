"""Alpaca-style columns: the prompt is `instruction` and, where a row has one, `input`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from preftree.labeling.data.dialogue import is_dialogue
from preftree.labeling.data.row import (
    PAIR_FIELDS,
    PROMPT_FIELDS,
    SEVERAL_FIELDS,
    SINGLE_FIELDS,
    BadRow,
    is_blank,
    name_of,
    quoted,
)
from preftree.labeling.data.shapes import PREFERENCE, Row, Shape

INSTRUCTION, INPUT = "instruction", "input"
_JOINED = "the prompt is instruction and, after a blank line, input where a row has one"
_VERDICTS = {"1": "a", "2": "b", "0": "tie"}
_ANNOTATORS = ("annotator1", "annotator2", "annotator3")


def prompt_of(row: Row) -> Any:
    """The instruction, a blank line and the input; without an input that says something the instruction alone.

    Raises BadRow where they cannot be joined.
    """
    instruction, about = row.get(INSTRUCTION), row.get(INPUT)
    if is_blank(about):
        return instruction
    for name, value in ((INPUT, about), (INSTRUCTION, instruction)):
        if not isinstance(value, str):
            raise BadRow(f"wrong type: {name} must be a string, to join instruction and input, found {name_of(value)}")
    return f"{instruction}\n\n{about}"


def _pair(row: Row) -> dict[str, Any]:
    """preference: 1 for output_1 to 2 for output_2, 1.5 or 0 for neither (AlpacaEval 1 and 2)."""
    value = row.get("preference")
    gold = None
    if value is not None:
        try:
            number = float("nan" if isinstance(value, bool) else value)
        except (TypeError, ValueError):
            number = float("nan")
        if not (number == 0 or 1 <= number <= 2):
            raise BadRow(f"bad gold: preference must be a number from 1 to 2, 0 or null, found {quoted(value)}")
        gold = "tie" if number in (0, 1.5) else "a" if number < 1.5 else "b"
    sides = {"response_a": row.get("output_1"), "response_b": row.get("output_2")}
    return {"prompt": prompt_of(row), **sides, "gold": gold}


def _preference(row: Row) -> dict[str, Any]:
    if not _is_preference(row):
        assert PREFERENCE.convert is not None
        return PREFERENCE.convert(row)
    sides = {"response_a": row.get("chosen"), "response_b": row.get("rejected")}
    return {"prompt": prompt_of(row), **sides, "gold": "a"}


def _is_preference(row: Row) -> bool:
    """Whether chosen and rejected are answers to the instruction, and not conversations with their prompt."""
    sides = [row.get(name) for name in ("chosen", "rejected")]
    return "prompt" not in row and not any(isinstance(side, list) or is_dialogue(side) for side in sides)


def _annotated(row: Row) -> dict[str, Any]:
    """annotatorN: 1 for response1, 2 for response2, 0 for neither. Gold is what most of them say, null without most."""
    votes = Counter(_vote(row[name]) for name in _ANNOTATORS if row.get(name) is not None)
    most, times = votes.most_common(1)[0] if votes else (None, 0)
    gold = most if 2 * times > votes.total() else None
    sides = {"response_a": row.get("response1"), "response_b": row.get("response2")}
    return {"prompt": prompt_of(row), **sides, "gold": gold}


def _vote(value: Any) -> str:
    verdict = None if isinstance(value, bool | list | dict) else _VERDICTS.get(str(value))
    if verdict is None:
        raise BadRow(f"bad gold: an annotator must say 1, 2 or 0, found {quoted(value)}")
    return verdict


def _generations(row: Row) -> dict[str, Any]:
    return {"prompt": prompt_of(row), "responses": row.get("generations")}


def _answer(row: Row) -> dict[str, Any]:
    return {"prompt": prompt_of(row), "response": row.get("output")}


def _prompt(row: Row) -> dict[str, Any]:
    return {"prompt": prompt_of(row)}


ALPACA = (
    Shape(
        "AlpacaEval pairs",
        (INSTRUCTION, "output_1", "output_2"),
        may=(INPUT, "preference"),
        fields=PAIR_FIELDS,
        convert=_pair,
        sides="response A is output_1, B is output_2, gold is preference",
        gold="preference",
    ),
    Shape(
        "Alpaca preferences",
        (INSTRUCTION, "chosen", "rejected"),
        may=(INPUT,),
        fields=PAIR_FIELDS,
        convert=_preference,
        sides="response A is chosen, B is rejected, gold is A",
        gold="chosen",
        narrows=PREFERENCE,
        is_one=_is_preference,
    ),
    Shape(
        "PandaLM pairs",
        (INSTRUCTION, "response1", "response2"),
        may=(INPUT, *_ANNOTATORS),
        fields=PAIR_FIELDS,
        convert=_annotated,
        sides="response A is response1, B is response2, gold is what most annotators say",
        gold=_ANNOTATORS[0],
        keeps=_ANNOTATORS,
    ),
    Shape(
        "distilabel generations",
        (INSTRUCTION, "generations"),
        may=(INPUT,),
        fields=SEVERAL_FIELDS,
        convert=_generations,
        sides="responses are generations",
        responses="generations",
    ),
    Shape(
        "Alpaca answers",
        (INSTRUCTION, "output"),
        may=(INPUT,),
        fields=SINGLE_FIELDS,
        convert=_answer,
        sides="response is output",
    ),
)
ALPACA_PROMPTS = Shape("Alpaca prompts", (INSTRUCTION,), may=(INPUT, "output"), fields=PROMPT_FIELDS, convert=_prompt)


def joined_note(shape: Shape, columns: Collection[str]) -> str | None:
    """What to say of the prompts of a layout with an instruction, where there is an input to join to it."""
    return _JOINED if INSTRUCTION in shape.needs and INPUT in shape.may and INPUT in columns else None
