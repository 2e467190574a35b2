"""Calls of several threads, run as one: prompts of callers that wait for each other share batches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.gathering import Gathering
from preftree.engine.openmp import dismiss_team
from preftree.engine.planning.lookups import Labels
from preftree.engine.requests import NO_LABELS, Prompts, checked_prompts
from preftree.engine.results import LabelScores, Rewards, split
from preftree.engine.scoring.readout import AnyReadout, LabelReadout, RewardReadout
from preftree.engine.scoring.runner import Call, Runner

# Prompts and the labels of each.
Asked = tuple[Prompts, Sequence[Labels]]


class JointCalls:
    """Runs one call, or all that wait, with the same answers."""

    def __init__(self, config: ModelConfig, runner: Runner, is_on_cpu: bool) -> None:
        """is_on_cpu: whether threads of torch compute, which belong to the thread that called last."""
        self._config = config
        self._runner = runner
        self._is_on_cpu = is_on_cpu
        self._labels = {
            options: Gathering(partial(self.score_all, prefix_cache=options[0], with_tokens=options[1]))
            for options in product((True, False), repeat=2)
        }
        self._rewards = {
            prefix_cache: Gathering(partial(self.reward_all, prefix_cache=prefix_cache))
            for prefix_cache in (True, False)
        }

    def score(self, asked: Asked, prefix_cache: bool, with_tokens: bool = False) -> LabelScores:
        """Scores of one call, as in `Engine.score`."""
        return self._labels[prefix_cache, with_tokens](asked)

    def reward(self, prompts: Prompts, prefix_cache: bool) -> Rewards:
        """Rewards of one call, as in `Engine.reward`."""
        return self._rewards[prefix_cache](prompts)

    def score_all(self, calls: Sequence[Asked], prefix_cache: bool, with_tokens: bool = False) -> list[LabelScores]:
        """Scores of several calls, run as one."""
        readout = LabelReadout([options for _, labels in calls for options in labels], with_tokens)
        call = self._run(calls, readout, prefix_cache)
        return split(call.readout.scores(call.cost), calls)

    def reward_all(self, calls: Sequence[Prompts], prefix_cache: bool) -> list[Rewards]:
        """Rewards of several calls, run as one."""
        asked = [(prompts, [NO_LABELS] * len(prompts)) for prompts in calls]
        call = self._run(asked, RewardReadout(sum(map(len, calls))), prefix_cache)
        return call.readout.result(call.cost).split(calls)

    def _run(self, calls: Sequence[Asked], readout: AnyReadout, prefix_cache: bool) -> Call[AnyReadout]:
        """readout: of all calls."""
        everything: list[Any] = []
        for prompts, labels in calls:
            # What is wrong is named by its place in its own call; arrays are not converted again.
            is_one_of_many = len(prompts) and len(calls) > 1
            everything += checked_prompts(prompts, labels, self._config) if is_one_of_many else prompts
        (call,) = self._runner.run([(everything, readout)], prefix_cache)
        if self._is_on_cpu:
            dismiss_team()  # the next call may come from another thread
        return call
