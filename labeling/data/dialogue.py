"""Preferences that hold their prompt inside, taken apart into what comes before the answers, and the answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from preftree.labeling.data.row import BadRow, name_of

_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ ]?")
_ROLES = {"Human": "user", "Assistant": "assistant"}

Messages = list[dict[str, Any]]
Parts = tuple[Any, Any, Any]
"""(prompt, chosen answer, rejected answer)"""


def is_dialogue(text: Any) -> bool:
    """Whether a text has turns as in HH-RLHF: "\\n\\nHuman: ...\\n\\nAssistant: ..."."""
    return isinstance(text, str) and text.lstrip().startswith("Human:") and "\n\nAssistant:" in text


def of_dialogues(chosen: str, rejected: str) -> Parts:
    """Two dialogues of the same turns up to the assistant's last. Raises BadRow."""
    return of_conversations(_turns(chosen), _turns(rejected))


def of_texts(chosen: str, rejected: str) -> Parts:
    """Two texts that begin the same: the prompt is what they share, up to a white space. Raises BadRow.

    White space at the seam goes; TRL cuts inside a word where the answers begin with the same letters.
    """
    if chosen == rejected:
        raise BadRow("no prompt: chosen and rejected are the same text")
    same = takewhile(lambda both: both[0] == both[1], zip(chosen, rejected, strict=False))
    shared = sum(1 for _ in same)
    space = re.search(r"\s\S*\Z", chosen[:shared])
    if space is None:
        raise BadRow("no prompt: chosen and rejected begin with different words")
    cut = space.start()
    return chosen[:cut].rstrip(), chosen[cut:].lstrip(), rejected[cut:].lstrip()


def of_conversations(chosen: Sequence[Any], rejected: Sequence[Any], prompt: Any = None) -> Parts:
    """Two lists of messages that differ in the last one only. Raises BadRow.

    prompt: None where the lists hold it. A single message each is an answer to it; else it must be in the lists, whole
    or as one of the user's messages.
    """
    answers = [_answer(side, name) for side, name in ((chosen, "chosen"), (rejected, "rejected"))]
    before, other = (_said(side[:-1]) for side in (chosen, rejected))
    if before != other:
        raise BadRow("different prompts: chosen and rejected differ before their last message")
    if not before:
        if prompt is None:
            raise BadRow("no prompt: chosen and rejected are one message each")
        return prompt, *answers
    if isinstance(prompt, list) and _said(prompt) != before[: len(prompt)]:
        raise BadRow("different prompts: chosen does not begin with prompt")
    asked = [text.strip() for role, text in before if role == "user" and isinstance(text, str)]
    if isinstance(prompt, str) and prompt.strip() not in asked:
        raise BadRow("different prompts: prompt is no message of chosen")
    return list(chosen[:-1]), *answers


def _turns(text: str) -> Messages:
    """White space around a turn is no part of it."""
    pieces = _TURN.split(text.lstrip())
    if pieces[0] or len(pieces) < 3:
        raise BadRow('bad dialogue: it must begin with "Human:" and have an answer by "Assistant:"')
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return [{"role": _ROLES[speaker], "content": words.strip()} for speaker, words in turns]


def _answer(messages: Sequence[Any], name: str) -> Any:
    if not messages:
        raise BadRow(f"blank text: {name} has no messages")
    last = messages[-1]
    if not isinstance(last, dict):
        raise BadRow(f"wrong type: the last message of {name} must be an object, found {name_of(last)}")
    if last.get("role") != "assistant":
        raise BadRow(f"bad answer: the last message of {name} must come from the assistant")
    return last.get("content")


def _said(messages: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Role and content of each; whatever else a message holds is of no account."""
    return [
        (entry.get("role"), entry.get("content")) if isinstance(entry, dict) else (None, entry) for entry in messages
    ]
