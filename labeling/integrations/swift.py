"""Reward functions for ms-swift, in a plugin that holds:

    from preftree.integrations.swift import register
    register("preftree", url="http://127.0.0.1:5000")

It is used with --external_plugins plugin.py --reward_funcs preftree.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from preftree.engine.errors import UsageError
from preftree.labeling.integrations.rewards import Rewards
from preftree.labeling.judge.protocol import AnyJudge

_PLACES = ("swift.rewards", "swift.plugin")  # of ms-swift 4 and 3


def register(name: str, judge: AnyJudge | str | None = None, **options: Any) -> type:
    """Makes a class of ms-swift's and registers it under a name. Options as of `Rewards`.

    Raises UsageError where ms-swift is not installed.
    """
    swift = _swift()
    made = type("PreftreeORM", (_Completions, swift.ORM), {"rewards": Rewards(judge, **options)})
    swift.orms[name] = made
    return made


class _Completions:
    """What the class does; ms-swift's ORM comes beside."""

    rewards: Rewards

    def __call__(self, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        """A reward for each completion; None, which ms-swift leaves out, where there is none.

        columns: of the dataset; `messages` may end in the completion, `prompt` is taken where there are none.
        """
        prompts = [_asked(messages) for messages in columns.get("messages") or columns.get("prompt") or []]
        found = self.rewards.score(prompts, completions)
        return [one.value if one else None for one in found]


def _asked(messages: Any) -> Any:
    """A conversation up to what the assistant answers at its end."""
    if isinstance(messages, str):
        return messages
    turns = list(messages)
    while turns and turns[-1]["role"] == "assistant":
        turns.pop()
    return turns


def _swift() -> Any:
    for place in _PLACES:
        try:
            module = import_module(place)
        except ModuleNotFoundError:
            continue
        if hasattr(module, "orms") and hasattr(module, "ORM"):
            return module
    raise UsageError("ms-swift is not installed; pip install ms-swift")
