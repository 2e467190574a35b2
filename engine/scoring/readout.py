"""What is read at final rows: labels, or a reward. One protocol, two implementations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch

from preftree.engine.device import Target
from preftree.engine.model.model import Model
from preftree.engine.planning.lookups import Labels, LookUps
from preftree.engine.planning.trie import TokenIds
from preftree.engine.requests import NO_LABELS
from preftree.engine.results import LabelScores, LabelTokens, Rewards, label_mass

Found = tuple[torch.Tensor, ...]


class Reading(Protocol):
    """What is read in one batch.

    sequences: token sequences after which something is read. sequence: [reads] int64, the place of each read among
    them.
    """

    @property
    def sequences(self) -> list[TokenIds]: ...

    @property
    def sequence(self) -> np.ndarray: ...

    def launch(self, model: Model, hidden: torch.Tensor, rows: torch.Tensor) -> Found:
        """Start to read at `rows` [reads] of `hidden`; the tensors are on the device."""
        ...

    def collect(self, found: Found, rows: np.ndarray) -> None:
        """Give the call what `launch` found, now in host memory."""
        ...


class Readout(Protocol):
    """What one call wants to know of its prompts, and the answers as they come.

    labels: of each prompt, NO_LABELS where something else is read.
    """

    @property
    def labels(self) -> Sequence[Labels]: ...

    def reading(self, prompts: np.ndarray, ids: Sequence[TokenIds], target: Target) -> Reading:
        """What is read in a batch of these prompts. prompts: their places in the call."""
        ...


AnyReadout = TypeVar("AnyReadout", bound=Readout)


@dataclass(frozen=True)
class Cost:
    """What a call took, see `LabelScores`."""

    prompt_tokens: int
    rows: int
    batches: int
    seconds: float


@dataclass
class LabelReadout:
    """Log-probabilities of labels.

    with_tokens: whether labels are wanted token by token, too. logprob, logit: [prompts, labels] float64, nan where a
    prompt has fewer labels. tokens: of each prompt.
    """

    labels: Sequence[Labels]
    with_tokens: bool = False
    logprob: np.ndarray = field(init=False)
    logit: np.ndarray = field(init=False)
    tokens: dict[int, tuple[LabelTokens, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.labels), max((len(options) for options in self.labels), default=0))
        self.logprob, self.logit = np.full(shape, np.nan), np.full(shape, np.nan)

    def reading(self, prompts: np.ndarray, ids: Sequence[TokenIds], target: Target) -> LabelReading:
        look_ups = LookUps.build(ids, [self.labels[index] for index in prompts])
        return LabelReading(self, prompts, look_ups, pinned(torch.from_numpy(look_ups.token), target))

    def scores(self, cost: Cost) -> LabelScores:
        """The answers, once all are there."""
        return LabelScores(
            logprob=self.logprob.astype(np.float32),
            logit=self.logit.astype(np.float32),
            label_mass=label_mass(self.logprob, self.labels),
            prompt_tokens=cost.prompt_tokens,
            rows=cost.rows,
            batches=cost.batches,
            seconds=cost.seconds,
            tokens=tuple(self.tokens[place] for place in range(len(self.labels))) if self.with_tokens else None,
        )


@dataclass(frozen=True)
class LabelReading:
    """A `Reading` of labels: every lookup is one. token: [lookups], in memory that the device copies from."""

    call: LabelReadout
    prompts: np.ndarray
    look_ups: LookUps
    token: torch.Tensor

    @property
    def sequences(self) -> list[TokenIds]:
        return self.look_ups.sequences

    @property
    def sequence(self) -> np.ndarray:
        return self.look_ups.sequence

    def launch(self, model: Model, hidden: torch.Tensor, rows: torch.Tensor) -> Found:
        """Logits [lookups] and log-sum-exps [final rows]; where tokens are wanted, the most probable [final rows]."""
        found = model.label_logits(hidden, rows, self.token.to(model.device, non_blocking=True))
        return (*found, model.most_probable(hidden)) if self.call.with_tokens else found

    def collect(self, found: Found, rows: np.ndarray) -> None:
        logits, normalisers, *top = found
        logit, normaliser = logits.double().numpy(), normalisers.double().numpy()[rows]
        by_label = self.look_ups.by_label(logit, normaliser)
        columns = slice(by_label[0].shape[1])
        self.call.logprob[self.prompts, columns], self.call.logit[self.prompts, columns] = by_label
        for most_probable in top:
            of_prompts = self.look_ups.by_token((logit - normaliser).astype(np.float32), most_probable.numpy()[rows])
            tokens = (tuple(LabelTokens(*parts) for parts in labels) for labels in of_prompts)
            self.call.tokens.update(zip(self.prompts.tolist(), tokens, strict=True))


@dataclass
class RewardReadout:
    """A reward model's scalar. rewards: [prompts] float32."""

    count: int
    rewards: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.rewards = np.full(self.count, np.nan, np.float32)

    @property
    def labels(self) -> Sequence[Labels]:
        return [NO_LABELS] * self.count

    def reading(self, prompts: np.ndarray, ids: Sequence[TokenIds], target: Target) -> RewardReading:
        return RewardReading(self, prompts, list(ids))

    def result(self, cost: Cost) -> Rewards:
        """The answers, once all are there."""
        return Rewards(self.rewards, cost.prompt_tokens, cost.rows, cost.batches, cost.seconds)


@dataclass(frozen=True)
class RewardReading:
    """A `Reading` of rewards: one after each prompt."""

    call: RewardReadout
    prompts: np.ndarray
    sequences: list[TokenIds]

    @property
    def sequence(self) -> np.ndarray:
        return np.arange(len(self.sequences))

    def launch(self, model: Model, hidden: torch.Tensor, rows: torch.Tensor) -> Found:
        return (model.rewards(hidden, rows),)

    def collect(self, found: Found, rows: np.ndarray) -> None:
        (rewards,) = found
        self.call.rewards[self.prompts] = rewards.numpy()


def pinned(tensor: torch.Tensor, target: Target) -> torch.Tensor:
    """In memory that a GPU copies from while the host goes on."""
    return tensor.pin_memory() if target.device.type == "cuda" else tensor
