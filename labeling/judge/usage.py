"""What a judge has done so far, and who hears of it meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, fields

ProgressCallback = Callable[[int, int], None]
"""Progress callback: receives the tokens and the rationales generated since its last call."""


@dataclass
class Usage:
    """Running totals. Several threads may add to them.

    Attributes:
        prompt_tokens: of all prompts.
        unique_tokens: of prompts and labels, that went through the model.
        batches: forward passes.
        seconds: spent in the engine.
        generated_tokens: of rationales.
        rationales: that were generated.
        cut_rationales: of them, those that were stopped at the token limit.
    """

    prompt_tokens: int = 0
    unique_tokens: int = 0
    batches: int = 0
    seconds: float = 0.0
    generated_tokens: int = 0
    rationales: int = 0
    cut_rationales: int = 0

    def __post_init__(self) -> None:
        self._adding = threading.Lock()

    def add(self, more: Usage) -> None:
        """What was done since."""
        with self._adding:
            for entry in fields(self):
                setattr(self, entry.name, getattr(self, entry.name) + getattr(more, entry.name))
