"""A comparison in the shapes that trainers read. Texts are messages everywhere: no seam of prompt and answer is lost.

trl-reward     id, chosen, rejected: whole conversations (TRL's RewardTrainer, prompts implicit); margin on request
trl-soft       id, chosen, rejected, p_chosen: the same with soft labels; of a tie A is chosen, with 0.5
trl-dpo        id, prompt, chosen, rejected: prompts explicit (TRL's DPOTrainer)
kto            id, prompt, completion, label: two rows a pair, the better response first (TRL's KTOTrainer)
openrlhf       id, chosen, rejected, margin: whole conversations (OpenRLHF with --apply_chat_template), which reads the
               margin on request only
ultrafeedback  id, chosen, rejected, score_chosen, score_rejected: whole conversations, as in TRL's copy of the
               binarized set; the original has the prompt beside them, with which TRL's DPOTrainer fails
soft           id, prompt, response_a, response_b, p_a, verdict: A and B as labelled; preftree reads it again
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from preftree.labeling.export.comparison import Comparison
from preftree.labeling.types import ArrowType, Message

MESSAGES: ArrowType = [{"role": "string", "content": "string"}]


@dataclass(frozen=True)
class Format:
    """The rows of a kind of trainer.

    Attributes:
        columns: of its rows.
        rows: of a comparison.
        ties: whether it can say that neither is better.
        soft: whether it holds probabilities, and so needs them.
    """

    columns: dict[str, ArrowType]
    rows: Callable[[Comparison], Iterator[dict[str, Any]]]
    ties: bool = False
    soft: bool = False


def messages(prompt: Iterable[Message], answer: str | None = None) -> list[dict[str, str]]:
    said = [{"role": message.role, "content": message.content} for message in prompt]
    return said if answer is None else [*said, {"role": "assistant", "content": answer}]


def format_of(name: str, margin: bool, softened: bool) -> Format:
    """The format of this name.

    Args:
        margin: with a column of that name, for trl-reward.
        softened: without that column, which would be wrong for copies with the other side chosen.
    """
    form = _WITH_MARGIN if margin else FORMATS[name]
    return _WHOLE if softened and form is _WITH_MARGIN else form


def _whole(one: Comparison) -> Iterator[dict[str, Any]]:
    chosen, rejected = messages(one.prompt, one.chosen), messages(one.prompt, one.rejected)
    yield {"id": one.id, "chosen": chosen, "rejected": rejected}


def _with_margin(one: Comparison) -> Iterator[dict[str, Any]]:
    for row in _whole(one):
        yield {**row, "margin": one.margin}


def _with_probability(one: Comparison) -> Iterator[dict[str, Any]]:
    for row in _whole(one):
        yield {**row, "p_chosen": one.confidence}


def _explicit(one: Comparison) -> Iterator[dict[str, Any]]:
    chosen, rejected = messages((), one.chosen), messages((), one.rejected)
    yield {"id": one.id, "prompt": messages(one.prompt), "chosen": chosen, "rejected": rejected}


def _single(one: Comparison) -> Iterator[dict[str, Any]]:
    for answer, label in ((one.chosen, True), (one.rejected, False)):
        yield {"id": one.id, "prompt": messages(one.prompt), "completion": messages((), answer), "label": label}


def _ultrafeedback(one: Comparison) -> Iterator[dict[str, Any]]:
    """Scores are those of a method that scores each response, else probabilities to be the better one."""
    of_a, of_b = one.scores or (one.p_a, 1.0 - one.p_a if one.p_a is not None else None)
    scores = (of_b, of_a) if one.verdict == "b" else (of_a, of_b)
    for row in _whole(one):
        yield {**row, "score_chosen": scores[0], "score_rejected": scores[1]}


def _soft(one: Comparison) -> Iterator[dict[str, Any]]:
    texts = {"prompt": messages(one.prompt), "response_a": one.response_a, "response_b": one.response_b}
    yield {"id": one.id, **texts, "p_a": one.p_a, "verdict": one.verdict}


_SIDES: dict[str, ArrowType] = {"id": "string", "chosen": MESSAGES, "rejected": MESSAGES}
_WHOLE = Format(_SIDES, _whole)
_WITH_MARGIN = Format({**_SIDES, "margin": "double"}, _with_margin)

FORMATS = {
    "trl-reward": _WHOLE,
    "trl-soft": Format({**_SIDES, "p_chosen": "double"}, _with_probability, ties=True, soft=True),
    "trl-dpo": Format({"id": "string", "prompt": MESSAGES, "chosen": MESSAGES, "rejected": MESSAGES}, _explicit),
    "kto": Format({"id": "string", "prompt": MESSAGES, "completion": MESSAGES, "label": "bool"}, _single),
    "openrlhf": _WITH_MARGIN,
    "ultrafeedback": Format({**_SIDES, "score_chosen": "double", "score_rejected": "double"}, _ultrafeedback),
    "soft": Format(
        {
            "id": "string",
            "prompt": MESSAGES,
            "response_a": "string",
            "response_b": "string",
            "p_a": "double",
            "verdict": "string",
        },
        _soft,
        ties=True,
        soft=True,
    ),
}
