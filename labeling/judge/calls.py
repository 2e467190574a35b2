"""Calls of the engine: what it is asked for a window of requests, and the answers that its numbers are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from preftree.engine.errors import InputError
from preftree.engine.generation import Generation
from preftree.labeling.judge.disjoint import disjoint
from preftree.labeling.judge.encoding import Encoded
from preftree.labeling.rationales import Rationale
from preftree.labeling.types import Answer, RationaleRequest, RequestScores

Window = Sequence[Encoded]
_UNLABELLED = Answer((), 0.0)  # where no labels were asked for


def prompts_and_labels(window: Window) -> tuple[list[list[int]], list[list[list[int]]]]:
    """What the engine takes: prompts, and labels of each."""
    return [item.ids for item in window], [item.labels for item in window]


def prompts_to_go_on_from(window: Window) -> tuple[list[list[int]], Any, Any, Any]:
    """The same where something is written first: prompts, what follows it, and what was written if that is known."""
    ids = [item.ids for item in window]
    if window and not window[0].labels:
        return ids, None, None, None
    given = None if not window or window[0].written is None else [item.written for item in window]
    return ids, [item.ending for item in window], [item.labels for item in window], given


def passing(windows: Iterable[Window], taken: deque[Window], rationale: RationaleRequest | None) -> Iterator[Window]:
    """`windows`, each put into `taken`. InputError where a request asks for another `rationale` than this."""
    way = _way(rationale)
    for window in windows:
        if any(_way(item.rationale) != way for item in window):
            raise InputError("all requests of a run must ask for a rationale in the same way, or none of them")
        taken.append(window)
        yield window


def answered(window: Window, logprobs: Any, masses: Any) -> list[RequestScores]:
    """Scores of each request.

    Args:
        window: what was asked.
        logprobs: [requests, labels], in nats.
        masses: of each request, the probability of any label at all.
    """
    answers = _answers(logprobs, masses, [item.labels for item in window])
    return [RequestScores((answer,), len(item.ids)) for item, answer in zip(window, answers, strict=True)]


def explained(window: Window, written: Sequence[Rationale], logprobs: Any, masses: Any) -> list[RequestScores]:
    """The same, with an answer after each rationale: so many of `written` for each request in turn."""
    samples = len(written) // len(window) if window else 0
    labels = [item.labels for item in window for _ in range(samples)]
    answers = _answers(logprobs, masses, labels) if any(labels) else [_UNLABELLED] * len(written)
    found = [answer._replace(rationale=one) for answer, one in zip(answers, written, strict=True)]
    return [
        RequestScores(tuple(found[samples * place : samples * (place + 1)]), len(item.ids))
        for place, item in enumerate(window)
    ]


def rationales_of(generations: Iterable[Iterable[Generation]]) -> list[Rationale]:
    """Of every prompt, one after another."""
    return [
        Rationale(one.text, len(one.ids), one.finish == "length", tuple(one.ids))
        for of_prompt in generations
        for one in of_prompt
    ]


def _way(rationale: RationaleRequest | None) -> object:
    """How a rationale is generated; what follows it may differ."""
    return rationale and (rationale.stop, rationale.reasoning)


def _answers(logprobs: Any, masses: Any, labels: Sequence[Sequence[Sequence[int]]]) -> list[Answer]:
    """labels: of each row of the others."""
    return [
        Answer(disjoint(logprob[: len(own)].tolist(), own), float(mass))
        for own, logprob, mass in zip(labels, logprobs, masses, strict=True)
    ]
