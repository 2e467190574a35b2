"""What is asked of decoding, and what comes back of one sequence. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from preftree.engine.errors import InputError

Finish = Literal["stop", "length"]
MAX_SAMPLES = 1024


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How continuations are sampled. What is drawn for a sequence is a function of seed, prompt, and sample number.

    Attributes:
        max_new_tokens: token limit of one continuation.
        temperature: 0 takes the most probable token; above 0 draws from softmax(logits / temperature).
        top_k: draw from the `top_k` most probable tokens only; None for all.
        top_p: draw from the fewest tokens whose probability reaches `top_p` only, in (0, 1]; None for all.
        n: continuations of each prompt.
        stop: strings that end a continuation and are not part of it.
        seed: sampling seed.

    Raises:
        InputError: a value is out of range.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    n: int = 1
    stop: Sequence[str] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        _check_whole("max_new_tokens", self.max_new_tokens, 1, 1 << 27)
        _check_whole("n", self.n, 1, MAX_SAMPLES)
        _check_whole("seed", self.seed, 0, (1 << 64) - 1)
        if self.top_k is not None:
            _check_whole("top_k", self.top_k, 1, 1 << 30)
        _check_number("temperature", self.temperature, 0.0, 100.0)
        if self.top_p is not None:
            _check_number("top_p", self.top_p, 0.0, 1.0)
            if self.top_p == 0:
                raise InputError("top_p is 0, which leaves no token to choose; it must be above 0 and at most 1")
        if self.temperature == 0 and self.n > 1:
            raise InputError(f"n is {self.n}, but at temperature 0 all samples are the same; set a temperature above 0")
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            raise InputError("top_k and top_p choose among tokens to draw from; set a temperature above 0")
        if isinstance(self.stop, str):
            raise InputError(f"stop is the text {self.stop!r:.100}; it must be a list of texts")
        if not all(self.stop):
            raise InputError("a stop text is empty, and would stop everything at once; leave it out")

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0


@dataclass(frozen=True)
class Generation:
    """One continuation of a prompt.

    Attributes:
        ids: its tokens, without the control token or the stop string that ended it.
        text: the tokens decoded.
        finish: "stop", or "length" where it reached max_new_tokens.
        rest: where a stop string begins inside a token, that token's text before it; `text + rest` is all of the text
            up to the stop string. Of a continuation that was given there is none.
    """

    ids: list[int]
    text: str
    finish: Finish
    rest: str = ""


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} is {value!r:.100}; it must be a whole number from {low} to {high:,}")


def _check_number(name: str, value: object, low: float, high: float) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise InputError(f"{name} is {value!r:.100}; it must be a number from {low:g} to {high:g}")
