"""A reward function for OpenRLHF's --reward.remote_url FILE.py, which holds:

    from preftree.integrations.openrlhf import reward_function
    reward_func = reward_function("path/to/judge", strip=["<|im_end|>"])

A server needs no file: --reward.remote_url http://127.0.0.1:5000/get_reward
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.integrations.rewards import Rewards, check_single, log_columns
from preftree.labeling.judge.protocol import AnyJudge
from preftree.labeling.serving.refused import Refused
from preftree.labeling.serving.texts import Markup


def reward_function(
    judge: AnyJudge | str | None = None, *, strip: Sequence[str] = (), **options: Any
) -> Callable[[Sequence[str], Sequence[str], Sequence[Any]], dict[str, Any]]:
    """The function `reward_func(queries, prompts, labels)`.

    Args:
        judge: see `Rewards`, as for options.
        strip: control strings of the policy's template, to be taken from the end of responses and both ends of prompts.
        options: see there.
    """
    rewards = check_single(Rewards(judge, **options), "OpenRLHF")
    markup = Markup(tuple(strip))

    def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]) -> dict[str, Any]:
        """Rewards of queries, each of which is its prompt and a response. Raises InputError where one has none."""
        try:
            texts = [markup.of_query(*one) for one in zip(queries, prompts, range(len(queries)), strict=True)]
        except Refused as refused:
            raise InputError(f"{refused.field} {refused.reason}") from None
        found = [rewards.of_one(*one) for one in texts]
        values = [one.value for one in found]
        logs = {
            name: sum(one for one in column if one is not None) / len(column)
            for name, column in log_columns(found).items()
        }
        return {"rewards": values, "scores": values, "extra_logs": logs}

    return reward_func
