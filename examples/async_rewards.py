"""Rewards in an asynchronous loop: rollouts are scored while others are still being generated."""

import asyncio

import preftree as pt
from preftree.integrations.trl import AsyncRewardFunction


async def rollout(number: int) -> tuple[str, str]:
    """Stands for a policy that generates."""
    await asyncio.sleep(0.01 * number)
    return f"What is {number} + {number}?", f"It is {2 * number}."


async def scored(reward: AsyncRewardFunction, number: int) -> float | None:
    prompt, completion = await rollout(number)
    # Calls that wait for each other run as one batch, with the bits that they have alone.
    (value,) = await reward([prompt], [completion])
    return value


async def main() -> None:
    with pt.Judge.load("embedded") as judge:
        reward = AsyncRewardFunction(judge)  # or url="http://127.0.0.1:5000", of `preftree serve`
        rewards = await asyncio.gather(*[scored(reward, number) for number in range(4)])
    print([None if one is None else round(one, 3) for one in rewards])


asyncio.run(main())
