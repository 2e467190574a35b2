"""The number that a trainer gets for a response, and what it may log beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from preftree.labeling.methods.score_labels import DirectLabel, Score
from preftree.labeling.methods.set_labels import PrincipledLabel
from preftree.labeling.types import Label


@dataclass(frozen=True)
class Reward:
    """A response's reward.

    Attributes:
        value: in [-1, 1]; under several sets of principles the mean of theirs.
        logs: figures by name: label mass, entropy, the reward under each set of principles.
        prompt_tokens: of all its prompts.
    """

    value: float
    logs: Mapping[str, float]
    prompt_tokens: int


def reward_of(label: Label) -> Reward:
    """The reward in the label of a single response."""
    scores = _scores(label)
    logs = {
        "label_mass": min(score.label_mass for score in scores.values()),
        "entropy": _mean([score.entropy for score in scores.values()]),
    }
    if isinstance(label, PrincipledLabel):
        logs |= {f"reward/{name}": score.reward for name, score in scores.items()}
    return Reward(_mean([score.reward for score in scores.values()]), logs, label.prompt_tokens)


def mean_logs(rewards: Sequence[Reward]) -> dict[str, float]:
    """Of several responses that were scored alike: the mean of each figure."""
    return {name: _mean([reward.logs[name] for reward in rewards]) for name in rewards[0].logs}


def _scores(label: Label) -> dict[str, Score]:
    """Of the response, by set of principles; by "" where there are none."""
    labels = dict(zip(label.names, label.labels, strict=True)) if isinstance(label, PrincipledLabel) else {"": label}
    return {name: one.scores[0] for name, one in labels.items() if isinstance(one, DirectLabel)}


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else math.fsum(values) / len(values)
