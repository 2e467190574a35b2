"""The number that a trainer gets for a response, and what it may log beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from preftree.labeling.methods.reward_labels import RewardLabel
from preftree.labeling.methods.rubric_labels import RubricLabel
from preftree.labeling.methods.score_labels import DirectLabel
from preftree.labeling.methods.set_labels import SetsLabel
from preftree.labeling.types import Label


@dataclass(frozen=True)
class Reward:
    """A response's reward.

    Attributes:
        value: of a judge in [-1, 1], of a reward model any number; under several sets of principles the mean of theirs.
        logs: figures by name: label mass and entropy of a judge, the reward under each set of principles, P(yes) of
            each criterion of a rubric that all responses share, the length.
        prompt_tokens: of all its prompts.
    """

    value: float
    logs: Mapping[str, float]
    prompt_tokens: int


def reward_of(label: Label, response: str) -> Reward:
    """The reward in the label of a single response, whose length is logged beside it: a policy that learns to please a
    judge often learns to be long first.
    """
    if isinstance(label, RubricLabel):
        return _by_rubric(label, response)
    names, labels = (label.names, label.labels) if isinstance(label, SetsLabel) else ((), (label,))
    scores = [one.scores[0] for one in labels if isinstance(one, DirectLabel)]
    rewards = [score.reward for score in scores] or [one.rewards[0] for one in labels if isinstance(one, RewardLabel)]
    logs = dict(zip((f"reward/{name}" for name in names), rewards, strict=False))
    if scores:
        logs["label_mass"] = min(score.label_mass for score in scores)
        logs["entropy"] = _mean([score.entropy for score in scores])
    logs["response_chars"] = float(len(response))
    return Reward(_mean(rewards), logs, label.prompt_tokens)


def _by_rubric(label: RubricLabel, response: str) -> Reward:
    """A row's own criteria have no figures: each row would have other names."""
    (score,) = label.scores
    judged = score.criteria if label.is_shared else ()
    logs = {"score": score.score, **{f"p_yes/{one.name}": one.p_yes for one in judged}, "label_mass": score.label_mass}
    return Reward(score.reward, logs | {"response_chars": float(len(response))}, label.prompt_tokens)


def mean_logs(rewards: Sequence[Reward]) -> dict[str, float]:
    """Of several responses that were scored alike: the mean of each figure."""
    return {name: _mean([reward.logs[name] for reward in rewards]) for name in rewards[0].logs}


def _mean(values: Sequence[float]) -> float:
    return values[0] if len(values) == 1 else math.fsum(values) / len(values)
