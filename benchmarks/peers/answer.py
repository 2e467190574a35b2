"""What a contestant replied, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.peers.worker import WorkerError


class Answer:
    """What a contestant replied to one run.

    Attributes:
        seconds: of the prompts, measured in its process.
        logprobs: [prompts, labels] float64 in nats; None from a contestant that does not return those of labels.
        peak_bytes: its largest resident set size so far; None where the system does not tell.
    """

    def __init__(self, name: str, reply: Mapping[str, Any], num_prompts: int) -> None:
        """Raises WorkerError for a reply that is no such thing."""
        try:
            self.seconds = float(reply["seconds"])
            self.peak_bytes: int | None = reply["peak_bytes"]
            found = reply["logprobs"]
            self.logprobs = None if found is None else np.array(found, dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise WorkerError(f"{name} answered without seconds and log-probabilities: {error}") from None
        if self.logprobs is None:
            return
        if self.logprobs.shape != (num_prompts, 2):
            raise WorkerError(f"{name} answered {self.logprobs.shape} log-probabilities of {num_prompts} prompts")
        if not np.isfinite(self.logprobs).all():
            raise WorkerError(f"{name} answered with log-probabilities that are not finite")
