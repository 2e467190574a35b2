"""How a judge explains before it answers: chain of thought and self-consistency (Lee et al. 2023).

Step one writes a rationale, step two appends the answer's beginning and scores the labels behind it. With several
rationales drawn for each prompt, the distributions behind them are averaged.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from preftree.engine.errors import InputError
from preftree.labeling.options import JudgeOptions

MAX_SAMPLES = 256
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.01, 100.0

_ONLY_DRAWN = ("top_k", "top_p", "seed")
_OPTIONS = {"max_tokens": "max_rationale_tokens"}  # the others have their own names


@dataclass(frozen=True, kw_only=True)
class Reasoning:
    """max_tokens: of a rationale. samples: rationales for each prompt. temperature: 0 takes the most probable token.

    top_k, top_p: draw among the k most probable tokens, among the most probable ones that make up the share p. seed: of
    everything drawn; what is drawn for a prompt depends on nothing but the prompt, these settings and the model.
    """

    max_tokens: int = 512
    samples: int = 1
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """InputError, in the words of the command line, for what is out of range."""
        if self.max_tokens < 1:
            raise InputError(f"--max-rationale-tokens must be at least 1, not {self.max_tokens}")
        if not 1 <= self.samples <= MAX_SAMPLES:
            raise InputError(f"--samples must be from 1 to {MAX_SAMPLES}, not {self.samples}")
        if self.temperature != 0 and not LOWEST_TEMPERATURE <= self.temperature <= HIGHEST_TEMPERATURE:
            span = f"from {LOWEST_TEMPERATURE:g} to {HIGHEST_TEMPERATURE:g}"
            raise InputError(f"--temperature must be 0 (the most probable) or {span}, not {self.temperature:g}")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"--top-k must be at least 1, not {self.top_k}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"--top-p must be above 0 and at most 1, not {self.top_p:g}")
        if self.seed < 0:
            raise InputError(f"--seed must be at least 0, not {self.seed}")
        if self.samples > 1 and self.temperature == 0:
            same = f"at temperature 0 all {self.samples} rationales are the same"
            raise InputError(f"--samples {self.samples}: {same}; add --temperature, such as 0.7")

    def record(self) -> dict[str, Any]:
        """For run.json."""
        return asdict(self)


def reasoning_of(options: JudgeOptions) -> Reasoning | None:
    """What `options` ask for; None without --cot. InputError for settings out of range, and for those without use."""
    own = {field.name: getattr(options, _OPTIONS.get(field.name, field.name)) for field in fields(Reasoning)}
    given = {name: value for name, value in own.items() if value is not None}
    if not options.cot:
        for name in (*given, *(["kv_memory"] if options.kv_memory is not None else [])):
            raise InputError(f"--{_flag(name)} requires --cot")
        return None
    reasoning = Reasoning(**given)
    for name in _ONLY_DRAWN:
        if name in given and reasoning.temperature == 0:
            raise InputError(f"--{_flag(name)}: sampling is off at temperature 0; add --temperature, such as 0.7")
    return reasoning


def _flag(name: str) -> str:
    return _OPTIONS.get(name, name).replace("_", "-")
