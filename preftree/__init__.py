"""Preference labels from a local LLM judge: every unique token of all prompts once, the same bits on every run.

    import preftree as pt
    judge = pt.Judge.load("path/to/model")
    labels = pt.label([{"prompt": "...", "response_a": "...", "response_b": "..."}], judge)

Importing this package is cheap and changes nothing in the process; what is heavy is imported when a name is first used.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preftree.engine.decoding.call import RationaleScores
    from preftree.engine.engine import Engine
    from preftree.engine.errors import InputError, ModelError, OutputError, PreftreeError, UsageError
    from preftree.engine.generation import Generation, Sampling
    from preftree.engine.planner import Planner
    from preftree.engine.planning.estimate import JobPlan
    from preftree.engine.results import LabelScores
    from preftree.labeling.api import Labels, label, label_file
    from preftree.labeling.integrations.labeler import PairLabeler
    from preftree.labeling.judge.judge import Judge
    from preftree.labeling.judge.reward_model import RewardModel
    from preftree.labeling.options.methods import DirectOptions as Direct
    from preftree.labeling.options.methods import PrincipledOptions as Principled
    from preftree.labeling.options.methods import RankingOptions as Ranking
    from preftree.labeling.options.methods import RewardOptions as Reward
    from preftree.labeling.options.methods import RlaifOptions as Rlaif
    from preftree.labeling.options.methods import RubricOptions as Rubric
    from preftree.labeling.options.methods import SalmonOptions as Salmon
    from preftree.labeling.types import Message, Pair, Response, ResponseSet

_HOMES = {
    "Direct": "preftree.labeling.options.methods:DirectOptions",
    "Engine": "preftree.engine.engine",
    "Generation": "preftree.engine.generation",
    "InputError": "preftree.engine.errors",
    "JobPlan": "preftree.engine.planning.estimate",
    "Judge": "preftree.labeling.judge.judge",
    "LabelScores": "preftree.engine.results",
    "Labels": "preftree.labeling.api",
    "Message": "preftree.labeling.types",
    "ModelError": "preftree.engine.errors",
    "OutputError": "preftree.engine.errors",
    "Pair": "preftree.labeling.types",
    "PairLabeler": "preftree.labeling.integrations.labeler",
    "Planner": "preftree.engine.planner",
    "PreftreeError": "preftree.engine.errors",
    "Principled": "preftree.labeling.options.methods:PrincipledOptions",
    "Ranking": "preftree.labeling.options.methods:RankingOptions",
    "RationaleScores": "preftree.engine.decoding.call",
    "Reward": "preftree.labeling.options.methods:RewardOptions",
    "RewardModel": "preftree.labeling.judge.reward_model",
    "Rlaif": "preftree.labeling.options.methods:RlaifOptions",
    "Rubric": "preftree.labeling.options.methods:RubricOptions",
    "Salmon": "preftree.labeling.options.methods:SalmonOptions",
    "Sampling": "preftree.engine.generation",
    "ResponseSet": "preftree.labeling.types",
    "Response": "preftree.labeling.types",
    "UsageError": "preftree.engine.errors",
    "label": "preftree.labeling.api",
    "label_file": "preftree.labeling.api",
}
__all__ = [
    "Direct",
    "Engine",
    "Generation",
    "InputError",
    "JobPlan",
    "Judge",
    "LabelScores",
    "Labels",
    "Message",
    "ModelError",
    "OutputError",
    "Pair",
    "PairLabeler",
    "Planner",
    "PreftreeError",
    "Principled",
    "Ranking",
    "RationaleScores",
    "Response",
    "ResponseSet",
    "Reward",
    "RewardModel",
    "Rlaif",
    "Rubric",
    "Salmon",
    "Sampling",
    "UsageError",
    "label",
    "label_file",
]

# What the library has to say goes to this logger; nothing is shown unless somebody listens.
logging.getLogger("preftree").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        module, _, theirs = _HOMES[name].partition(":")
        return getattr(import_module(module), theirs or name)
    raise AttributeError(f"module 'preftree' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
