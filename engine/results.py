"""What comes back from scoring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from preftree.engine.planning.lookups import Labels


@dataclass(frozen=True)
class LabelTokens:
    """A label, token by token.

    Attributes:
        ids: [tokens] int64.
        logprob: [tokens] float32, log-probability in nats of each after the prompt and the tokens before it.
        top: [tokens] int64, the most probable token at each place: what greedy decoding would choose.
    """

    ids: np.ndarray
    logprob: np.ndarray
    top: np.ndarray

    @property
    def is_greedy(self) -> bool:
        """Whether greedy decoding would write this label."""
        return bool((self.ids == self.top).all())


@dataclass(frozen=True)
class LabelScores:
    """What the model says of every label of every prompt.

    Attributes:
        logprob: [prompts, labels] float32, log-probability in nats of the label after the prompt under the full
            vocabulary; those of a longer label's tokens are summed. nan where a prompt has fewer labels than another.
        logit: [prompts, labels] float32, raw logit of single-token labels, nan for longer ones.
        label_mass: [prompts] float32, probability that the answer begins with any of the labels.
        prompt_tokens: tokens of all prompts.
        rows: unique tokens run through the model, a new prefix cache included.
        batches: forward passes over prompts.
        seconds: wall time, without what ran while an earlier call was collected.
        too_long: prompts that exceed the model's context and were not run: their rows are nan.
        tokens: `[prompts][labels]`, where `Engine.score` was asked for them; of prompts that are too long, no labels.
    """

    logprob: np.ndarray
    logit: np.ndarray
    label_mass: np.ndarray
    prompt_tokens: int
    rows: int
    batches: int
    seconds: float
    too_long: tuple[int, ...] = ()
    tokens: tuple[tuple[LabelTokens, ...], ...] | None = None

    def with_gaps(self, too_long: Sequence[int], num_labels: int) -> LabelScores:
        """The same with rows of nan at these places, and this many columns."""
        count = len(self.label_mass) + len(too_long)
        kept = np.setdiff1d(np.arange(count), too_long)
        logprob, logit = (np.full((count, num_labels), np.nan, np.float32) for _ in range(2))
        mass = np.full(count, np.nan, np.float32)
        columns = slice(self.logprob.shape[1])
        logprob[kept, columns], logit[kept, columns], mass[kept] = self.logprob, self.logit, self.label_mass
        tokens = None
        if self.tokens is not None:
            of_kept = dict(zip(kept.tolist(), self.tokens, strict=True))
            tokens = tuple(of_kept.get(place, ()) for place in range(count))
        return replace(self, logprob=logprob, logit=logit, label_mass=mass, too_long=tuple(too_long), tokens=tokens)


@dataclass(frozen=True)
class Rewards:
    """What a reward model says of whole texts.

    Attributes:
        reward: [prompts] float32.
        prompt_tokens: as in `LabelScores`, as are the others.
        rows: see there.
        batches: see there.
        seconds: see there.
    """

    reward: np.ndarray
    prompt_tokens: int
    rows: int
    batches: int
    seconds: float

    def split(self, calls: Sequence[Sequence[Sequence[int]]]) -> list[Rewards]:
        """Of several calls that were run as one, in order. Rows and batches are counted in the first."""
        parts = np.split(self.reward, np.cumsum([len(prompts) for prompts in calls])[:-1])
        found = [
            replace(self, reward=part, prompt_tokens=sum(map(len, prompts)), rows=0, batches=0)
            for part, prompts in zip(parts, calls, strict=True)
        ]
        return [replace(found[0], rows=self.rows, batches=self.batches), *found[1:]]


def label_mass(logprob: np.ndarray, labels: Sequence[Labels]) -> np.ndarray:
    """Sum of the labels' probabilities. A label that begins with another one ("1", "10") is part of that one's."""
    mass = np.empty(len(labels), dtype=np.float32)
    for index, options in enumerate(labels):
        column_of = {tuple(label): column for column, label in enumerate(options)}
        outermost = [
            column
            for label, column in column_of.items()
            if not any(label[:length] in column_of for length in range(1, len(label)))
        ]
        mass[index] = np.exp(logprob[index, outermost]).sum()
    return mass


def split(scores: LabelScores, calls: Sequence[tuple[Sequence[Sequence[int]], Sequence[Labels]]]) -> list[LabelScores]:
    """`scores` of several calls that were run as one, in order. Rows and batches are counted in the first.

    calls: prompts and labels of each.
    """
    found = []
    first = 0
    for place, (prompts, labels) in enumerate(calls):
        rows = slice(first, first + len(prompts))
        columns = slice(max(map(len, labels), default=0))
        found.append(
            replace(
                scores,
                logprob=scores.logprob[rows, columns],
                logit=scores.logit[rows, columns],
                label_mass=scores.label_mass[rows],
                tokens=None if scores.tokens is None else scores.tokens[rows],
                prompt_tokens=sum(map(len, prompts)),
                rows=0 if place else scores.rows,
                batches=0 if place else scores.batches,
            )
        )
        first = rows.stop
    return found
