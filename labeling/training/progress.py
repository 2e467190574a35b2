"""How far training is."""

from __future__ import annotations

import logging
from contextlib import ExitStack

from preftree.labeling.progress import Progress

_LOGGER = logging.getLogger("preftree")


class TrainingProgress:
    """A bar of steps with the loss, and a line for each look at held-out pairs. A context manager."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._open = ExitStack()
        self._bar: Progress | None = None
        self._done = 0

    def __call__(self, done: int, steps: int, figures: dict[str, float]) -> None:
        """Steps done, all steps, and figures where the trainer has some."""
        if self._bar is None:
            self._done = max(0, done - 1)
            self._bar = self._open.enter_context(Progress(steps, self._quiet, "step", self._done, is_kept=False))
        self._bar.advance(done - self._done)
        self._done = done
        if "loss" in figures:
            self._bar.note(f"loss {figures['loss']:.4f}")
        if "eval_loss" in figures:
            said = f"loss {figures['eval_loss']:.4f}, accuracy {figures['eval_accuracy']:.1%}"
            _LOGGER.info(f"step {done:,} of {steps:,}: held-out {said}")

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
