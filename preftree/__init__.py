"""Preference labels from a local LLM judge: every unique token of all prompts once, the same bits on every run.

    import preftree as pt
    engine = pt.Engine.load("path/to/model")
    scores = engine.score(prompts, labels)

Importing this package is cheap and changes nothing in the process; what is heavy is imported when a name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preftree.engine.decoding.call import ReasonedScores
    from preftree.engine.engine import Engine, Planner
    from preftree.engine.errors import InputError, ModelError, OutputError, PreftreeError, PreftreeWarning
    from preftree.engine.generation import Generation, Sampling
    from preftree.engine.planning.estimate import JobPlan
    from preftree.engine.results import LabelScores
    from preftree.labeling.types import Message, Pair

_HOMES = {
    "Engine": "preftree.engine.engine",
    "Generation": "preftree.engine.generation",
    "InputError": "preftree.engine.errors",
    "JobPlan": "preftree.engine.planning.estimate",
    "LabelScores": "preftree.engine.results",
    "Message": "preftree.labeling.types",
    "ModelError": "preftree.engine.errors",
    "OutputError": "preftree.engine.errors",
    "Pair": "preftree.labeling.types",
    "Planner": "preftree.engine.engine",
    "PreftreeError": "preftree.engine.errors",
    "PreftreeWarning": "preftree.engine.errors",
    "ReasonedScores": "preftree.engine.decoding.call",
    "Sampling": "preftree.engine.generation",
}
__all__ = [
    "Engine",
    "Generation",
    "InputError",
    "JobPlan",
    "LabelScores",
    "Message",
    "ModelError",
    "OutputError",
    "Pair",
    "Planner",
    "PreftreeError",
    "PreftreeWarning",
    "ReasonedScores",
    "Sampling",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'preftree' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
