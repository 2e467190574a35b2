"""The ways in which a contestant can be asked for the same prompts. The fastest is the one to compare with.

Engines with a prefix cache find a prefix that prompts before have left there. So it matters what is sent before what:
everything in the given order; sorted, so that prompts that share much are neighbours; or in waves, one prompt of each
prefix first and the others when it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.contestants import Contestant
from benchmarks.peers.transformers import candidates
from benchmarks.workloads import JudgePrompt, Workload

Waves = list[list[int]]
# At most the number that its worker loads it with. Either was the faster one, by 10 to 20%, in some trial.
VLLM_STEP_TOKENS = (2048, 8192)


@dataclass(frozen=True)
class Setting:
    """name: for people. of: what the worker is told, by the prompts of the run."""

    name: str
    of: Callable[[Sequence[JudgePrompt]], dict[str, Any]]


def settings(contestant: Contestant, workload: Workload) -> list[Setting]:
    """Those worth trying."""
    if contestant.is_ours:
        return [Setting("default", lambda prompts: {})]
    if contestant.family in ("padded", "prefix"):
        peers = candidates(contestant.family, None, workload)
        return [Setting(peer.setting, _candidate(place)) for place, peer in enumerate(peers)]
    if contestant.family == "vllm":
        return [
            Setting(f"{name}, steps of {size:,} tokens", _in_waves(make, step_tokens=size))
            for name, make in WAVES.items()
            for size in VLLM_STEP_TOKENS
        ]
    return [Setting(name, _in_waves(make)) for name, make in WAVES.items()]


def _candidate(place: int) -> Callable[[Sequence[JudgePrompt]], dict[str, Any]]:
    return lambda prompts: {"candidate": place}


def _in_waves(
    make: Callable[[Sequence[JudgePrompt]], Waves], **more: int
) -> Callable[[Sequence[JudgePrompt]], dict[str, Any]]:
    return lambda prompts: {"waves": [wave for wave in make(prompts) if wave], **more}


def given(prompts: Sequence[JudgePrompt]) -> Waves:
    return [list(range(len(prompts)))]


def neighbours(prompts: Sequence[JudgePrompt]) -> Waves:
    return [sorted(range(len(prompts)), key=lambda place: prompts[place].ids)]


def two_waves(prompts: Sequence[JudgePrompt]) -> Waves:
    """One prompt of each order of a pair, where an order has several, or else of each pair; then the others."""
    several = len({_order(prompt) for prompt in prompts}) < len(prompts)
    key: Callable[[JudgePrompt], object] = _order if several else _pair
    first: dict[object, int] = {}
    for place, prompt in enumerate(prompts):
        first.setdefault(key(prompt), place)
    ahead = set(first.values())
    return [sorted(ahead), [place for place in range(len(prompts)) if place not in ahead]]


def three_waves(prompts: Sequence[JudgePrompt]) -> Waves:
    """The first prompt alone, for what all of them begin with; then as in two waves."""
    ahead, others = two_waves(prompts)
    return [ahead[:1], ahead[1:], others]


WAVES: dict[str, Callable[[Sequence[JudgePrompt]], Waves]] = {
    "all at once": given,
    "all at once, sorted": neighbours,
    "two waves": two_waves,
    "three waves": three_waves,
}


def _order(prompt: JudgePrompt) -> object:
    return prompt.pair, prompt.order


def _pair(prompt: JudgePrompt) -> object:
    return prompt.pair
