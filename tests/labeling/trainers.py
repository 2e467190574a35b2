"""`preftree train` in a process that has the trainers, which lie beside the environment; and what it is trained on."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from preftree.labeling.types import PairLabel
from tests.fork_server import trainers
from tests.labeling.fakes import row
from tests.labeling.labelled_run import labelled_run

# How good a response is by its letter: the difference of two is the logit that the first is better.
QUALITY = dict(zip("abcdef", np.linspace(-1.2, 1.2, 6).tolist(), strict=True))
FAST = ("--full", "--lr", "0.01", "--batch-size", "16", "--device", "cpu", "--set", "eval_steps=0.5")


class Done(NamedTuple):
    """What a command came to."""

    code: int
    said: str


class Asked(NamedTuple):
    """A command.

    Attributes:
        arguments: of the command line.
        fails: what its trainer raises at step `at`, by name; or "margin" where the loss is that of TRL with a margin.
        at: from 0.
    """

    arguments: Sequence[str | Path]
    fails: str = ""
    at: int = 0


def train(*asked: Asked) -> list[Done]:
    """Each command in turn, in one process."""
    commands = json.dumps([[list(map(str, one.arguments)), one.fails, one.at] for one in asked])
    return [Done(*one) for one in trainers().answered("tests.labeling.trainers", given=commands)]


def known_run(directory: Path, pairs: int) -> Path:
    """A run whose labels are the sigmoid of a difference in quality; two pairs of each prompt."""
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for number in range(pairs):
        a, b = rng.choice(list(QUALITY), 2, replace=False)
        p = 1 / (1 + math.exp(QUALITY[b] - QUALITY[a]))
        texts = {"prompt": f"{number // 2}?", "response_a": a * 4, "response_b": b * 4}
        rows.append(row(id=str(number), gold="ab"[p < 0.5], **texts))
        labels.append(PairLabel(p, p, p, 0.9, 0.9, 10))
    return labelled_run(directory, "rlaif", rows, labels)


def manifest(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "preftree.json").read_text())
    return found


def _with_margin(self: Any, model: Any, inputs: dict[str, Any], *given: Any, **more: Any) -> Any:
    """TRL's loss with the margin that an export can hold: how far both probabilities are apart."""
    from trl import RewardTrainer

    inputs["margin"] = 2 * inputs.pop("p") - 1
    return RewardTrainer.compute_loss(self, model, inputs, *given, **more)


def _run(arguments: list[str], fails: str, at: int) -> tuple[int, str]:
    import torch

    from preftree.labeling import cli
    from preftree.labeling.training.trainer import SoftRewardTrainer

    raised: Any = {"interrupt": KeyboardInterrupt, "memory": torch.OutOfMemoryError}.get(fails)
    step, loss = SoftRewardTrainer.training_step, SoftRewardTrainer.compute_loss

    def failing(self: Any, *given: Any) -> Any:
        if raised is not None and self.state.global_step == at:
            raise raised("CUDA out of memory" if fails == "memory" else "")
        return step(self, *given)

    losses = _with_margin if fails == "margin" else loss
    patches = mock.patch.multiple(SoftRewardTrainer, training_step=failing, compute_loss=losses)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), patches:
        code = cli.main(arguments)
    return code, said.getvalue()


if __name__ == "__main__":
    results = [_run(*one) for one in json.load(sys.stdin)]
    print(json.dumps(results))
