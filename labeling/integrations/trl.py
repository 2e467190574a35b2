"""Reward functions for TRL's GRPOTrainer and RLOOTrainer:

    from preftree.integrations.trl import RewardFunction
    trainer = GRPOTrainer(model, reward_funcs=RewardFunction(url="http://127.0.0.1:5000"), ...)

TRL itself is never imported.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any

from preftree.labeling.integrations.rewards import Rewards, log_columns
from preftree.labeling.judge.protocol import AnyJudge


class RewardFunction:
    """Rewards of a batch of completions; those of a prompt follow each other. See `Rewards` for its options."""

    def __init__(self, judge: AnyJudge | str | None = None, *, name: str = "preftree", **options: Any) -> None:
        """name: in TRL's logs."""
        self.__name__ = name
        self._rewards = Rewards(judge, **options)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """A reward for each completion; None, which TRL leaves out, where there is none.

        Args:
            prompts: strings or messages.
            completions: strings or messages.
            log_extra: takes columns for the table of completions: label mass, entropy, reward under each set of
                principles, P(yes) of each criterion.
            log_metric: takes their means, and the share of completions without reward.
            columns: of the dataset; `id` names prompts, and `rubric_column` has their rubrics.
        """
        rubrics = columns.get(self._rewards.rubric_column or "")
        found = self._rewards.score(prompts, completions, columns.get("id"), rubrics)
        for name, column in log_columns(found).items():
            if log_extra is not None:
                log_extra(f"{self.__name__}/{name}", column)
            if log_metric is not None:
                there = [value for value in column if value is not None]
                log_metric(f"{self.__name__}/{name}", math.fsum(there) / len(there))
        if log_metric is not None and found:
            log_metric(f"{self.__name__}/unscored", sum(one is None for one in found) / len(found))
        return [one.value if one else None for one in found]


class AsyncRewardFunction:
    """The same as a coroutine: TRL runs it beside its other asynchronous functions."""

    def __init__(self, judge: AnyJudge | str | None = None, *, name: str = "preftree", **options: Any) -> None:
        """As `RewardFunction`."""
        self.__name__ = name
        self._function = RewardFunction(judge, name=name, **options)

    async def __call__(self, *args: Any, **named: Any) -> list[float | None]:
        """See `RewardFunction`."""
        return await asyncio.to_thread(self._function, *args, **named)
