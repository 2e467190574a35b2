"""A reward function for verl:

    reward.custom_reward_function.path=pkg://preftree.integrations.verl
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.url=http://127.0.0.1:5000

verl itself is never imported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.integrations.rewards import check_single, shared_rewards

# What verl passes beside, where it runs a reward model of its own.
_OF_VERL = ("reward_router_address", "reward_model_tokenizer")


async def compute_score(
    data_source: Any,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    prompt_key: str = "prompt",
    **options: Any,
) -> dict[str, float]:
    """The reward of a response as `score`, and figures beside it.

    Args:
        data_source: ignored.
        solution_str: the response.
        ground_truth: ignored.
        extra_info: of the row; holds the prompt, which verl does not pass: a string or messages.
        prompt_key: where in `extra_info` it is.
        options: as of `Rewards`; `judge` names a model to load.

    Raises:
        InputError: there is no prompt, or the response cannot be scored.
    """
    prompt = (extra_info or {}).get(prompt_key)
    if prompt is None:
        raise InputError(f"extra_info has no {prompt_key!r}; verl passes no prompt, so put it there in the dataset")
    given = {name: value for name, value in options.items() if name not in _OF_VERL}
    rewards = check_single(shared_rewards(given), "verl")
    found = await asyncio.to_thread(
        rewards.of_one, list(prompt) if not isinstance(prompt, str) else prompt, solution_str
    )
    return {"score": found.value, **found.logs}
