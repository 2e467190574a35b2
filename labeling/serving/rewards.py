"""The number that a trainer gets for a response, and what it may log beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from preftree.labeling.methods.reward_labels import RewardLabel
from preftree.labeling.methods.score_labels import DirectLabel
from preftree.labeling.methods.set_labels import SetsLabel
from preftree.labeling.types import Label


@dataclass(frozen=True)
class Reward:
    """A response's reward.

    Attributes:
        value: a judge's is in [-1, 1]; under several sets of principles the mean of theirs.
        logs: figures by name: label mass and entropy, or the normalised reward; the reward under each set.
        prompt_tokens: of all its prompts.
    """

    value: float
    logs: Mapping[str, float]
    prompt_tokens: int


def reward_of(label: Label) -> Reward:
    """The reward in the label of a single response."""
    if not isinstance(label, SetsLabel):
        value, logs = _figures(label)
        return Reward(value, logs, label.prompt_tokens)
    found = [_figures(one) for one in label.labels]
    figures = {name: _mean([logs[name] for _, logs in found]) for name in found[0][1]}
    by_set = {f"reward/{name}": value for name, (value, _) in zip(label.names, found, strict=True)}
    return Reward(_mean([value for value, _ in found]), figures | by_set, label.prompt_tokens)


def mean_logs(rewards: Sequence[Reward]) -> dict[str, float]:
    """Of several responses that were scored alike: the mean of each figure."""
    return {name: _mean([reward.logs[name] for reward in rewards]) for name in rewards[0].logs}


def _figures(label: Label) -> tuple[float, dict[str, float]]:
    """The reward of a response by a judge or a reward model, and what is known beside it."""
    if isinstance(label, DirectLabel):
        (score,) = label.scores
        return score.reward, {"label_mass": score.label_mass, "entropy": score.entropy}
    assert isinstance(label, RewardLabel)
    return label.rewards[0], {"normalized_reward": label.normalized[0]} if label.normalized else {}


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else math.fsum(values) / len(values)
