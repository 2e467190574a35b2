"""The sets of columns that are known, in this project's words and in those of others, and how they become its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from preftree.labeling.data.dialogue import is_dialogue, of_conversations, of_dialogues, of_texts
from preftree.labeling.data.row import OWN_FIELDS, PAIR_FIELDS, BadRow, name_of, quoted

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shape:
    """name: for people. needs: columns without which it is another one. may: further ones that it reads.

    fields: those of the samples that rows become; None where each row's own columns say. convert: a row's columns ->
    fields, and what templates may show beside them, or BadRow; None where they are fields already. sides: which column
    is which response, for people. gold: the column that says which side is better. responses: the column that is a list
    of them. id: the column with the row's id. keeps: those of the columns that pass through although they are read.
    narrows: a shape whose columns these rows have, too, and which they are not. is_one: whether a row with the columns
    is one, where columns do not tell. raw_gold: the column whose value is gold as it is; one that is not read
    costs the gold, not the row. split: a row's columns, and its line -> the rows that it stands for.
    """

    name: str
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()
    fields: tuple[str, ...] | None = None
    convert: Callable[[Row], dict[str, Any]] | None = None
    sides: str = ""
    gold: str | None = None
    raw_gold: str | None = None
    responses: str | None = None
    id: str = "id"
    keeps: tuple[str, ...] = ()
    narrows: Shape | None = None
    is_one: Callable[[Row], bool] | None = None
    split: Callable[[Row, int], Sequence[dict[str, Any]]] | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All that it reads; the others pass through."""
        return (self.id, *self.needs, *self.may)


def _preference(row: Row) -> dict[str, Any]:
    """chosen and rejected: answers to `prompt`, or texts, dialogues or conversations that hold it themselves."""
    chosen, rejected, prompt = row.get("chosen"), row.get("rejected"), row.get("prompt")
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(side, str | list):
            raise BadRow(f"wrong type: {name} must be a string or a list of messages, found {name_of(side)}")
    if type(chosen) is not type(rejected):
        raise BadRow(f"wrong type: chosen is {name_of(chosen)} and rejected {name_of(rejected)}")
    if isinstance(chosen, list):
        assert isinstance(rejected, list)
        parts = of_conversations(chosen, rejected, prompt)
    elif "prompt" in row:
        parts = prompt, chosen, rejected
    else:
        assert isinstance(chosen, str)
        assert isinstance(rejected, str)
        parts = (of_dialogues if is_dialogue(chosen) else of_texts)(chosen, rejected)
    return dict(zip(("prompt", "response_a", "response_b", "gold"), (*parts, "a"), strict=True))


def _comparison(row: Row) -> dict[str, Any]:
    """TL;DR: two summaries of info.post (of info.article where it is news); choice is the index of the better one.

    Subreddit and title are there for templates, `{{ row.title }}`; they are no columns of the output.
    """
    info, summaries, choice = row.get("info"), row.get("summaries"), row.get("choice")
    if not isinstance(info, dict):
        raise BadRow(f"wrong type: info must be an object, found {name_of(info)}")
    if not isinstance(summaries, list) or len(summaries) != 2:
        raise BadRow("wrong type: summaries must be a list of two")
    if not all(isinstance(summary, dict) for summary in summaries):
        raise BadRow("wrong type: each of summaries must be an object with a text")
    if isinstance(choice, bool) or choice not in (0, 1):
        raise BadRow(f"bad gold: choice must be 0 or 1, found {quoted(choice)}")
    text = info.get("post") if info.get("post") is not None else info.get("article")
    first, second = (summary.get("text") for summary in summaries)
    about = {name: info[name] for name in ("subreddit", "title") if info.get(name) is not None}
    return {"prompt": text, "response_a": first, "response_b": second, "gold": "ab"[int(choice)], **about}


def _battle(row: Row) -> dict[str, Any]:
    """Two conversations of one turn each, or with the same turns before the last."""
    first, second = (_messages(row.get(name), name) for name in ("conversation_a", "conversation_b"))
    parts = of_conversations(first, second, None)
    return dict(zip(("prompt", "response_a", "response_b", "gold"), (*parts, row.get("winner")), strict=True))


def _messages(value: Any, name: str) -> list[Any]:
    """Of messages, role and text; later battles have their texts in lists of parts."""
    if not isinstance(value, list):
        raise BadRow(f"wrong type: {name} must be a list of messages, found {name_of(value)}")
    return [
        {"role": one.get("role"), "content": _joined(one.get("content"))} if isinstance(one, dict) else one
        for one in value
    ]


def _joined(content: Any) -> Any:
    """The text of parts that are texts; what else there is stays as it is, and is refused where it is read."""
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "\n".join(map(str, texts)) if texts and len(texts) == len(parts) else content


OWN = Shape(
    "preftree's own columns",
    ("prompt",),
    may=tuple(name for name in OWN_FIELDS if name not in ("id", "prompt")),
    raw_gold="gold",
)
PREFERENCE = Shape(
    "preferences",
    ("chosen", "rejected"),
    may=("prompt",),
    fields=PAIR_FIELDS,
    convert=_preference,
    sides="response A is chosen, B is rejected, gold is A",
    gold="chosen",
)
ARENA = Shape(
    "Arena battles",
    ("conversation_a", "conversation_b"),
    may=("winner",),
    fields=PAIR_FIELDS,
    convert=_battle,
    sides="response A ends conversation_a, B ends conversation_b, gold is winner",
    gold="winner",
    raw_gold="winner",
)
OTHERS = (
    ARENA,
    replace(
        ARENA,
        name="Arena battles of 2023",
        needs=(*ARENA.needs, "question_id"),
        id="question_id",
        narrows=ARENA,
    ),
    PREFERENCE,
    Shape(
        "TL;DR comparisons",
        ("info", "summaries", "choice"),
        fields=PAIR_FIELDS,
        convert=_comparison,
        sides="response A is the first of summaries, B the second, gold is choice",
        gold="choice",
    ),
)


def preference_name(row: Row) -> str:
    """Whose preferences these are, judging by one row."""
    chosen, prompt = row.get("chosen"), row.get("prompt")
    if isinstance(chosen, list):
        if "prompt" not in row:
            return "TRL preferences, conversations with an implicit prompt"
        if len(chosen) == 1:
            return "TRL preferences, conversations with an explicit prompt"
        return (
            "UltraFeedback-binarized" if isinstance(prompt, str) else "TRL preferences, conversations with their prompt"
        )
    if "prompt" in row:
        return "RewardBench" if "subset" in row else "TRL preferences with an explicit prompt"
    return "HH-RLHF dialogues" if is_dialogue(chosen) else "TRL preferences with an implicit prompt"
