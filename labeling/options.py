"""What a user asks for, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """What is asked about which file, and of whom. None leaves a choice to the method or the engine."""

    input: str
    model: str = "embedded"
    method: str = "rlaif"
    template: str | None = None
    preamble: str = "detailed"
    exemplars: int = 0
    rendering: Literal["auto", "chat", "plain"] = "auto"
    limit: int | None = None
    device: str | None = None
    dtype: str | None = None
    batch_tokens: int | None = None
    prefix_cache: bool = True


@dataclass(frozen=True, kw_only=True)
class LabelOptions(JudgeOptions):
    """overwrite: replace labels that are there. profile: file for a profiler's trace."""

    out: str
    overwrite: bool = False
    quiet: bool = False
    profile: str | None = None
