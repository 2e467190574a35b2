"""What a reward model reads, as messages: the one place that training, scoring and exports take it from.

The messages go through the model's chat template, and the last turn is the assistant's. A reward model without
principles reads the conversation as it is. One that follows principles (SALMON, Sun et al. 2023) reads a single message
that shows instruction, response and principles, and a short ending as the answer. The principles come last, so that all
sets of principles for a response share what comes before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

from preftree.engine.errors import InputError
from preftree.labeling.prompts.template import conversation_text
from preftree.labeling.types import Message

Layout = Literal["conversation", "instruction-first", "response-first"]
"""conversation: no principles. response-first: the order of SALMON's released models. instruction-first: the responses
to one instruction share it.
"""
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
PLAIN: Layout = "conversation"

_TASK = "Judge how well an AI assistant responds to an instruction. Apply the criteria at the end, and no others."
_INSTRUCTION = "## Instruction\n{instruction}"
_RESPONSE = "## Response\n{response}"
_PRINCIPLES = "## Criteria\nA good response meets all of these:\n{principles}"
_ENDING = "Quality of the response:"
_PARTS = {
    "instruction-first": (_TASK, _INSTRUCTION, _RESPONSE, _PRINCIPLES),
    "response-first": (_TASK, _RESPONSE, _INSTRUCTION, _PRINCIPLES),
}


def reward_messages(
    prompt: Sequence[Message], response: str, layout: Layout = PLAIN, principles: Sequence[str] = ()
) -> tuple[Message, ...]:
    """The conversation that a reward model reads, up to the assistant's last turn.

    principles: statements, the negative one of a principle that is negated; in every layout but "conversation", which
        has no place for them. InputError for the other way round.
    """
    if bool(principles) != (layout != PLAIN):
        raise InputError(
            "this reward model takes no principles; one that follows them is trained with --principled"
            if principles
            else "this reward model follows principles; name at least one"
        )
    if layout == PLAIN:
        return (*prompt, Message("assistant", response))
    shown = {
        "instruction": conversation_text(prompt),
        "response": response,
        "principles": "\n".join(f"- {statement}" for statement in principles),
    }
    return Message("user", "\n\n".join(_PARTS[layout]).format_map(shown)), Message("assistant", _ENDING)


def input_sha256(layout: Layout, chat_template: str) -> str:
    """Of all that is put around the texts: a reward model must be scored with what it was trained with."""
    parts = () if layout == PLAIN else (*_PARTS[layout], _ENDING)
    return hashlib.sha256("\0".join((layout, *parts, chat_template)).encode()).hexdigest()
