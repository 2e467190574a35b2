"""A reward function for AReaL:

    from preftree.integrations.areal import RewardFunction
    workflow = RLVRWorkflow(reward_fn=RewardFunction(url="http://127.0.0.1:5000"), ...)

AReaL calls it in processes of its own, and takes 0 for what lasts over 15 seconds.
"""

from __future__ import annotations

from typing import Any

from preftree.labeling.integrations.rewards import Rewards, check_single
from preftree.labeling.judge.protocol import AnyJudge


class RewardFunction:
    """The reward of a completion. It pickles: another process opens its judge there. See `Rewards` for its options."""

    def __init__(self, judge: AnyJudge | str | None = None, **options: Any) -> None:
        """The server's answers are waited for 12 seconds, unless `timeout` is given."""
        waiting = {} if judge is not None else {"timeout": 12.0}
        self._rewards = check_single(Rewards(judge, **{**waiting, **options}), "AReaL")

    def __call__(self, prompt: Any, completions: Any, prompt_ids: Any, completion_ids: Any, **columns: Any) -> float:
        """Raises InputError where there is none."""
        messages = columns.get("messages")
        return self._rewards.of_one(prompt if messages is None else messages, completions).value
