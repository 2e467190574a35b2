"""lm-evaluation-harness' own model `hf` and `preftree` on the tasks of a folder; run as a module, offline.

Prints a JSON object: what every task was answered by each of the two, and how wrong calls are refused.
"""

import json
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.tasks import TaskManager

from preftree import Generation, PreftreeError
from preftree.integrations.lm_eval import PreftreeLM, main


def answers(model: Any, tasks: Any, chat: bool) -> dict[str, Any]:
    """By task: results, prompts, and what came back for each request of each document."""
    found: Any = lm_eval.evaluate(model, tasks, bootstrap_iters=0, apply_chat_template=chat)
    return {
        name: {
            "results": {key: value for key, value in found["results"][name].items() if isinstance(value, float)},
            "answers": [[one[0] for one in sample["resps"]] for sample in samples],
            "prompts": [[one[0] for one in sample["arguments"]] for sample in samples],
        }
        for name, samples in found["samples"].items()
    }


def refusals(model: str) -> dict[str, str]:
    """What is said of wrong calls, by name."""
    found = {}
    calls = {
        "option": lambda: PreftreeLM(model, dtpye="float32"),
        "type": lambda: PreftreeLM(model, dtype="float7"),
        "length": lambda: PreftreeLM(model, max_length=100000),
        "argument": lambda: generated(model, {"num_beams": 4}),
        "room": lambda: generated(model, {"max_gen_toks": 5000}),
        "nothing": lambda: PreftreeLM(model).loglikelihood([Instance("loglikelihood", {}, ("What?", ""), 0)]),
    }
    for name, call in calls.items():
        try:
            call()
        except PreftreeError as error:
            found[name] = str(error)
    return found


def generated(model: str, *asked: dict[str, Any]) -> list[str]:
    """Continuations of one context."""
    return PreftreeLM(model, seed=7).generate_until([Instance("generate_until", {}, ("the", one), 0) for one in asked])


def command_line(model: str) -> list[Any]:
    """Exit code and stderr of the command line from where it opens the model; listing all tasks takes 7 s."""
    with patch("lm_eval.__main__.cli_evaluate", lambda: PreftreeLM(model)), redirect_stderr(StringIO()) as said:
        code = main()
    return [code, said.getvalue()]


def calls(model: str) -> dict[str, Any]:
    """What single calls answer, and how wrong ones are refused; each opens the model again."""
    sampled = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 8}
    with patch("preftree.Engine.generate", return_value=[[Generation([5], "one", "stop", rest=" tw")]]):
        stopped = generated(model, {"until": ["o"]})
    return {
        "refused": refusals(model),
        "command": command_line("/not/there"),
        "samples": generated(model, sampled, sampled, {"max_gen_toks": 8}, sampled),
        "stopped": stopped,
    }


def compare(folder: str, model: str, max_length: str, *more: str) -> None:
    manager = TaskManager(include_path=folder, include_defaults=False)
    tasks = manager.load([path.stem for path in Path(folder).glob("*.yaml")])
    found = calls(model) if more else {}
    arguments = f"pretrained={model},dtype=float32,max_length={max_length}"
    for kind in ("hf", "preftree"):
        opened = get_model(kind).create_from_arg_string(arguments, {"device": "cpu"})
        found[kind] = {str(chat): answers(opened, tasks, chat) for chat in (False, True)}
    print(json.dumps(found))


if __name__ == "__main__":
    compare(*sys.argv[1:])
