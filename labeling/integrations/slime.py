"""A reward function for slime:

    --custom-rm-path preftree.integrations.slime.reward --rm-url http://127.0.0.1:5000

With --group-rm slime hands over the samples of a prompt together. Without this module: --rm-type remote_rm --rm-url
http://127.0.0.1:5000/reward
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.integrations.rewards import Rewards, shared_rewards
from preftree.labeling.judge.protocol import AnyJudge

Function = Callable[..., Coroutine[Any, Any, Any]]


async def reward(args: Any, sample: Any, **others: Any) -> Any:
    """The reward of a sample, or of each of a list, from the server that `--rm-url` names. See `reward_function`."""
    return await _rewarded(shared_rewards({"url": args.rm_url}), sample)


def reward_function(judge: AnyJudge | str | None = None, **options: Any) -> Function:
    """A function for a custom module, with options as of `Rewards`; `compare` needs --group-rm."""
    rewards = Rewards(judge, **options)

    async def custom_reward(args: Any, sample: Any, **others: Any) -> Any:
        return await _rewarded(rewards, sample)

    return custom_reward


async def _rewarded(rewards: Rewards, sample: Any) -> Any:
    """A number, or a list of them for a list of samples. Raises InputError where one has none."""
    samples = sample if isinstance(sample, list) else [sample]
    found = await asyncio.to_thread(rewards.score, [one.prompt for one in samples], [one.response for one in samples])
    if None in found:
        raise InputError("a sample has no reward; the line before says why")
    values = [one.value for one in found if one is not None]
    return values if isinstance(sample, list) else values[0]
