"""Token ids in, log-probabilities out: prompts as a trie, every unique token through the model once.

    from engine import Engine
    engine = Engine.load("embedded")
    scores = engine.score(prompts, labels)

Importing this package is cheap; torch is imported when `Engine` is first touched.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

import kernels

if getattr(kernels, "DISTRIBUTION", None) != "preftree":
    raise ImportError(
        f"preftree needs its own package `kernels`, but `import kernels` found {kernels.__file__}, which belongs to "
        "another distribution (`pip show kernels`). Install preftree in an environment of its own, or: "
        "pip uninstall kernels && pip install --force-reinstall --no-deps preftree"
    )

# torch's OpenMP threads spin while they wait for each other. With one other busy process on the machine that made
# scoring up to thirty times slower; waiting briefly and then sleeping costs nothing on an idle one. It is read when
# torch is first imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

if TYPE_CHECKING:
    from engine.engine import Engine, Planner
    from engine.generation import Generation, Sampling
    from engine.planning.estimate import JobPlan
    from engine.running.reasoning import ReasonedScores
    from engine.running.scores import LabelScores

_HOMES = {
    "Engine": "engine.engine",
    "Generation": "engine.generation",
    "JobPlan": "engine.planning.estimate",
    "LabelScores": "engine.running.scores",
    "Planner": "engine.engine",
    "ReasonedScores": "engine.running.reasoning",
    "Sampling": "engine.generation",
}
__all__ = ["Engine", "Generation", "JobPlan", "LabelScores", "Planner", "ReasonedScores", "Sampling"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'engine' has no attribute {name!r}")
